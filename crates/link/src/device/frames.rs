//! Frames on streams.

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use troupe_wire::device::{DeviceFrame, limits::FRAME_HEAD_BYTES};

use super::{credits::Credits, error::DeviceLinkError};

/// What is read at once, so that a length that lies makes no room.
const PIECE_BYTES: usize = 16 * 1024;
/// Short frames go out together: each write to a stream takes the lock of its connection.
const TOGETHER_BYTES: usize = 16 * 1024;

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

fn cut() -> DeviceLinkError {
    DeviceLinkError::Stream(std::io::ErrorKind::UnexpectedEof.into())
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
            return Err(cut());
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

/// Reads a stream of many short frames: as many of them with one read as came.
#[derive(Debug)]
pub struct FrameReader<R> {
    from: R,
    bytes: BytesMut,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Of a stream between two frames.
    #[must_use]
    pub fn new(from: R) -> Self {
        Self { from, bytes: BytesMut::new() }
    }

    /// The next frame with its size; `None` when the stream ended between two frames. Cancel
    /// safe.
    ///
    /// # Errors
    /// The stream broke off, or what came does not read.
    pub async fn next(&mut self) -> Result<Option<(DeviceFrame, usize)>, DeviceLinkError> {
        loop {
            if let Some(frame) = self.next_here()? {
                return Ok(Some(frame));
            }
            self.bytes.reserve(PIECE_BYTES);
            let read = self.from.read_buf(&mut self.bytes).await;
            if read.map_err(DeviceLinkError::Stream)? == 0 {
                return if self.bytes.is_empty() { Ok(None) } else { Err(cut()) };
            }
        }
    }

    /// The next frame, if all of it came already.
    ///
    /// # Errors
    /// What came does not read.
    pub fn next_here(&mut self) -> Result<Option<(DeviceFrame, usize)>, DeviceLinkError> {
        let Some(head) = self.bytes.first_chunk() else { return Ok(None) };
        let (code, len) = DeviceFrame::head(*head).map_err(DeviceLinkError::Frame)?;
        let size = FRAME_HEAD_BYTES + len;
        if self.bytes.len() < size {
            return Ok(None);
        }
        let payload = if len < PIECE_BYTES {
            // Room of its own: a short payload that is kept holds no long buffer.
            let payload = Bytes::copy_from_slice(&self.bytes[FRAME_HEAD_BYTES..size]);
            self.bytes.advance(size);
            payload
        } else {
            self.bytes.split_to(size).freeze().split_off(FRAME_HEAD_BYTES)
        };
        let frame = DeviceFrame::decode(code, payload).map_err(DeviceLinkError::Frame)?;
        Ok(Some((frame, size)))
    }
}

/// Writes a stream of many short frames, some of them with one write. Not cancel safe: a write
/// that was given up loses the stream.
#[derive(Debug)]
pub struct FrameWriter<W> {
    to: W,
    bytes: BytesMut,
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Of a stream between two frames.
    #[must_use]
    pub fn new(to: W) -> Self {
        Self { to, bytes: BytesMut::new() }
    }

    /// Writes a frame that costs nothing. It may be held back until [`flush`](Self::flush).
    ///
    /// # Errors
    /// It does not fit, or the stream broke off.
    pub async fn write(&mut self, frame: &DeviceFrame) -> Result<(), DeviceLinkError> {
        frame.encode_to(&mut self.bytes).map_err(DeviceLinkError::OwnFrame)?;
        self.write_out(TOGETHER_BYTES).await
    }

    /// Writes a frame once it is paid for. It may be held back until [`flush`](Self::flush),
    /// but nothing is while this waits for credit: new credit is the answer to what was sent.
    ///
    /// # Errors
    /// It does not fit, or the link is gone.
    pub async fn write_paid(
        &mut self,
        frame: &DeviceFrame,
        credits: &Credits,
    ) -> Result<(), DeviceLinkError> {
        let before = self.bytes.len();
        let size = frame.encode_to(&mut self.bytes).map_err(DeviceLinkError::OwnFrame)?;
        if !credits.try_pay(size) {
            let unpaid = self.bytes.split_off(before);
            self.flush().await?;
            credits.pay(size).await?;
            self.bytes = unpaid;
        }
        self.write_out(TOGETHER_BYTES).await
    }

    /// Sends what was held back.
    ///
    /// # Errors
    /// The stream broke off.
    pub async fn flush(&mut self) -> Result<(), DeviceLinkError> {
        self.write_out(1).await?;
        self.to.flush().await.map_err(DeviceLinkError::Stream)
    }

    /// The same, and ends the stream.
    ///
    /// # Errors
    /// The stream broke off.
    pub async fn finish(mut self) -> Result<(), DeviceLinkError> {
        self.write_out(1).await?;
        self.to.shutdown().await.map_err(DeviceLinkError::Stream)
    }

    /// Writes out what is held back, if it is so much.
    async fn write_out(&mut self, least: usize) -> Result<(), DeviceLinkError> {
        if self.bytes.len() >= least {
            self.to.write_all(&self.bytes).await.map_err(DeviceLinkError::Stream)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use troupe_types::{Attempt, ExecutionId, OutSeq, Uuid};
    use troupe_wire::{
        Credit,
        device::{AttemptKey, Output, Ping},
    };

    use super::*;

    fn output(n: u64, len: usize) -> DeviceFrame {
        let key = AttemptKey {
            execution: ExecutionId::from_uuid(Uuid::from_u128(1)),
            attempt: Attempt(1),
        };
        DeviceFrame::Output(Output { key, out_seq: OutSeq(n), body: vec![b'x'; len].into() })
    }

    fn runtime() -> tokio::runtime::Runtime {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
    }

    proptest! {
        /// Whatever pieces a stream comes in, the frames come out of it, in order and whole.
        #[test]
        fn frames_are_read_from_any_pieces(
            lens in prop::collection::vec(prop_oneof![0_usize..400, 15_000_usize..40_000], 1..20),
            room in 1_usize..60_000,
        ) {
            let frames: Vec<_> =
                lens.iter().zip(1..).map(|(len, n)| output(n, *len)).collect();
            let sent = frames.clone();
            let (near, far) = tokio::io::duplex(room);
            let got = runtime().block_on(async move {
                let writing = async move {
                    let mut writer = FrameWriter::new(near);
                    for frame in &sent {
                        writer.write(frame).await.unwrap();
                    }
                    writer.finish().await.unwrap();
                };
                let reading = async move {
                    let (mut reader, mut got) = (FrameReader::new(far), Vec::new());
                    while let Some((frame, size)) = reader.next().await.unwrap() {
                        assert_eq!(size, frame.encode().unwrap().len());
                        got.push(frame);
                    }
                    got
                };
                tokio::join!(reading, writing).0
            });
            prop_assert_eq!(got, frames);
        }
    }

    #[tokio::test]
    async fn what_is_held_back_goes_out_before_a_wait_for_credit() {
        let size = output(1, 10).encode().unwrap().len();
        let credits = Credits::new(Credit { bytes: 1_000, items: 1 });
        let (near, far) = tokio::io::duplex(4_096);
        let (mut writer, mut reader) = (FrameWriter::new(near), FrameReader::new(far));
        writer.write_paid(&output(1, 10), &credits).await.unwrap();
        let (second, third) = (output(2, 10), output(3, 10));
        let writing = async {
            writer.write_paid(&second, &credits).await.unwrap();
            writer.write_paid(&third, &credits).await.unwrap();
            writer.flush().await.unwrap();
        };
        let reading = async {
            assert_eq!(reader.next().await.unwrap(), Some((output(1, 10), size)));
            assert!(reader.next_here().unwrap().is_none(), "it is not paid for");
            assert!(credits.add(Credit { bytes: 0, items: 2 }));
            assert_eq!(reader.next().await.unwrap(), Some((output(2, 10), size)));
            assert_eq!(reader.next().await.unwrap(), Some((output(3, 10), size)));
        };
        tokio::join!(writing, reading);
    }

    #[tokio::test]
    async fn a_stream_that_ends_within_a_frame_is_broken() {
        let bytes = DeviceFrame::Ping(Ping { nonce: 1 }).encode().unwrap();
        for len in 1..bytes.len() {
            let mut reader = FrameReader::new(&bytes[..len]);
            assert!(matches!(reader.next().await, Err(DeviceLinkError::Stream(_))), "{len}");
        }
        let mut reader = FrameReader::new(&bytes[..]);
        assert!(reader.next().await.unwrap().is_some());
        assert!(reader.next().await.unwrap().is_none());
    }

    #[tokio::test]
    async fn a_frame_that_does_not_fit_leaves_nothing_behind() {
        let large = output(1, troupe_wire::device::limits::FRAME_BYTES_MAX + 1);
        let (near, far) = tokio::io::duplex(4_096);
        let mut writer = FrameWriter::new(near);
        assert!(matches!(writer.write(&large).await, Err(DeviceLinkError::OwnFrame(_))));
        writer.write(&output(1, 1)).await.unwrap();
        writer.finish().await.unwrap();
        let mut reader = FrameReader::new(far);
        assert_eq!(reader.next().await.unwrap().unwrap().0, output(1, 1));
    }
}
