//! Sends the output of one attempt over a stream of its own.

use std::{sync::Arc, time::Duration};

use tokio::time::sleep;
use troupe_link::{
    BoxRead, BoxWrite, Connection, Purpose,
    device::{Credits, DeviceLinkError, FrameWriter},
};
use troupe_wire::device::{Attach, AttemptKey, DeviceFrame, Output};

use crate::outbox::{Outbox, OutboxError};

/// What is read from the disk at once.
const BATCH_BYTES: usize = 256 * 1024;
/// What cannot be read now is read again after this.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// An attempt's stream.
struct Stream {
    write: FrameWriter<BoxWrite>,
    #[expect(dead_code, reason = "held: a half that is dropped is a word to the other side")]
    read: BoxRead,
}

/// Why no more output of an attempt is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// There is none.
    All,
    /// What is on the disk cannot be read.
    Unreadable,
}

/// Runs until all output of an ended attempt is sent, or the attempt is forgotten.
///
/// # Errors
/// The link is gone.
pub(super) async fn send_attempt(
    key: AttemptKey,
    outbox: Outbox,
    connection: Arc<dyn Connection>,
    credits: Arc<Credits>,
) -> Result<Sent, DeviceLinkError> {
    let Some(mut marks) = outbox.marks(key) else { return Ok(Sent::All) };
    let mut next = marks.borrow().acked.next();
    let mut stream: Option<Stream> = None;
    loop {
        let now = *marks.borrow_and_update();
        if now.durable < next {
            if now.ended {
                break;
            }
            if marks.changed().await.is_err() {
                break;
            }
            continue;
        }
        let batch = match outbox.read(key, next, BATCH_BYTES).await {
            Ok(batch) => batch,
            Err(OutboxError::Unknown | OutboxError::Closed) => break,
            Err(OutboxError::Disk(error)) => {
                tracing::warn!(?key, %error, "output cannot be read now");
                sleep(READ_AGAIN).await;
                continue;
            }
            Err(error) => {
                tracing::error!(?key, %error, "output cannot be read");
                finish(stream).await;
                return Ok(Sent::Unreadable);
            }
        };
        for (out_seq, body) in batch.into_iter().take_while(|(seq, _)| *seq <= now.durable) {
            if out_seq > next {
                // What lies between was acknowledged meanwhile: attach anew after it.
                finish(stream.take()).await;
                next = out_seq;
            }
            let to = match &mut stream {
                Some(stream) => stream,
                None => stream.insert(attach(&*connection, key, next).await?),
            };
            let output = DeviceFrame::Output(Output { key, out_seq, body });
            to.write.write_paid(&output, &credits).await?;
            next = out_seq.next();
        }
        if now.acked >= next {
            finish(stream.take()).await;
            next = now.acked.next();
        }
        if let Some(stream) = &mut stream {
            stream.write.flush().await?;
        }
    }
    finish(stream).await;
    Ok(Sent::All)
}

async fn attach(
    connection: &dyn Connection,
    key: AttemptKey,
    from: troupe_types::OutSeq,
) -> Result<Stream, DeviceLinkError> {
    let stream = connection.open(Purpose::Execution).await.map_err(DeviceLinkError::Link)?;
    let mut stream = Stream { write: FrameWriter::new(stream.write), read: stream.read };
    stream.write.write(&DeviceFrame::Attach(Attach { key, from })).await?;
    Ok(stream)
}

async fn finish(stream: Option<Stream>) {
    if let Some(stream) = stream {
        // A stream that cannot be finished is gone with its link.
        let _ = stream.write.finish().await;
    }
}
