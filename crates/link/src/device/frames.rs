//! Frames on streams.

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use troupe_wire::device::{DeviceFrame, limits::FRAME_HEAD_BYTES};

use super::error::DeviceLinkError;

/// What is read at once, so that a length that lies makes no room.
const PIECE_BYTES: usize = 16 * 1024;

/// The next frame with its size; `None` when the stream ended between two frames. Not cancel
/// safe: a read that was given up loses the stream.
///
/// # Errors
/// The stream broke off, or what came does not read.
pub async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<(DeviceFrame, usize)>, DeviceLinkError> {
    let Some((code, payload)) = read_payload(from).await? else { return Ok(None) };
    let size = FRAME_HEAD_BYTES + payload.len();
    let frame = DeviceFrame::decode(code, payload).map_err(DeviceLinkError::Frame)?;
    Ok(Some((frame, size)))
}

/// The next frame, unread: its kind and its payload.
pub(super) async fn read_payload(
    from: &mut (impl AsyncRead + Unpin),
) -> Result<Option<(u8, Bytes)>, DeviceLinkError> {
    let mut head = [0; FRAME_HEAD_BYTES];
    match from.read(&mut head[..1]).await.map_err(DeviceLinkError::Stream)? {
        0 => return Ok(None),
        _ => from.read_exact(&mut head[1..]).await.map_err(DeviceLinkError::Stream)?,
    };
    let (code, len) = DeviceFrame::head(head).map_err(DeviceLinkError::Frame)?;
    let mut payload = BytesMut::with_capacity(len.min(PIECE_BYTES));
    while payload.len() < len {
        let room = (len - payload.len()).min(PIECE_BYTES);
        payload.reserve(room);
        let read = from.take(room as u64).read_buf(&mut payload).await;
        if read.map_err(DeviceLinkError::Stream)? == 0 {
            let cut = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
            return Err(DeviceLinkError::Stream(cut));
        }
    }
    Ok(Some((code, payload.freeze())))
}

/// Writes a frame, without flushing; answers its size.
///
/// # Errors
/// It does not fit, or the stream broke off.
pub async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    frame: &DeviceFrame,
) -> Result<usize, DeviceLinkError> {
    let bytes = frame.encode().map_err(DeviceLinkError::OwnFrame)?;
    to.write_all(&bytes).await.map_err(DeviceLinkError::Stream)?;
    Ok(bytes.len())
}
