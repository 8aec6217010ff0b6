//! Sends the output of one attempt over a stream of its own.

use std::sync::Arc;

use tokio::{
    io::{AsyncWriteExt, BufWriter},
    sync::Semaphore,
};
use troupe_link::{
    BoxRead, BoxWrite, Connection, Purpose,
    device::{DeviceLinkError, write_frame},
};
use troupe_wire::device::{Attach, AttemptKey, DeviceFrame, Output, limits::FRAME_HEAD_BYTES};

use crate::outbox::{Outbox, OutboxError};

/// What is read from the disk at once.
const BATCH_BYTES: usize = 256 * 1024;
/// Short outputs go out together: each write to a stream takes the lock of its connection.
const BUFFER_BYTES: usize = 16 * 1024;
/// What an output costs besides its body: head, attempt, number, length.
const OUTPUT_EXTRA: usize = FRAME_HEAD_BYTES + 16 + 4 + 8 + 4;

/// What a device may still send on a link.
#[derive(Debug)]
pub(super) struct Credits {
    pub(super) bytes: Semaphore,
    pub(super) items: Semaphore,
}

impl Credits {
    /// Who has to wait sends first what it holds back: new credit is the answer to that.
    async fn pay(&self, size: usize, to: &mut Stream) -> Result<(), DeviceLinkError> {
        let gone = || DeviceLinkError::Unexpected { what: "the end of the link" };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        for (purse, price) in [(&self.bytes, size), (&self.items, 1)] {
            let paid = match purse.try_acquire_many(price) {
                Ok(paid) => paid,
                Err(_) => {
                    to.write.flush().await.map_err(DeviceLinkError::Stream)?;
                    purse.acquire_many(price).await.map_err(|_| gone())?
                }
            };
            paid.forget();
        }
        Ok(())
    }
}

/// An attempt's stream.
struct Stream {
    write: BufWriter<BoxWrite>,
    #[expect(dead_code, reason = "held: a half that is dropped is a word to the other side")]
    read: BoxRead,
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
) -> Result<(), DeviceLinkError> {
    let Some(mut marks) = outbox.marks(key) else { return Ok(()) };
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
            Err(error) => {
                tracing::error!(?key, %error, "output cannot be read");
                break;
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
            credits.pay(OUTPUT_EXTRA + body.len(), to).await?;
            write_frame(&mut to.write, &DeviceFrame::Output(Output { key, out_seq, body })).await?;
            next = out_seq.next();
        }
        if now.acked >= next {
            finish(stream.take()).await;
            next = now.acked.next();
        }
        if let Some(stream) = &mut stream {
            stream.write.flush().await.map_err(DeviceLinkError::Stream)?;
        }
    }
    finish(stream).await;
    Ok(())
}

async fn attach(
    connection: &dyn Connection,
    key: AttemptKey,
    from: troupe_types::OutSeq,
) -> Result<Stream, DeviceLinkError> {
    let stream = connection.open(Purpose::Execution).await.map_err(DeviceLinkError::Link)?;
    let write = BufWriter::with_capacity(BUFFER_BYTES, stream.write);
    let mut stream = Stream { write, read: stream.read };
    write_frame(&mut stream.write, &DeviceFrame::Attach(Attach { key, from })).await?;
    Ok(stream)
}

async fn finish(stream: Option<Stream>) {
    if let Some(mut stream) = stream {
        // A stream that cannot be finished is gone with its link.
        let _ = stream.write.shutdown().await;
    }
}
