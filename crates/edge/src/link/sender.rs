//! Sends the output of one attempt over a stream of its own.

use std::sync::Arc;

use tokio::{io::AsyncWriteExt, sync::Semaphore};
use troupe_link::{
    Connection, LinkStream, Purpose,
    device::{DeviceLinkError, write_frame},
};
use troupe_wire::device::{Attach, AttemptKey, DeviceFrame, Output, limits::FRAME_HEAD_BYTES};

use crate::outbox::{Outbox, OutboxError};

/// What is read from the disk at once.
const BATCH_BYTES: usize = 256 * 1024;
/// What an output costs besides its body: head, attempt, number, length.
const OUTPUT_EXTRA: usize = FRAME_HEAD_BYTES + 16 + 4 + 8 + 4;

/// What a device may still send on a link.
#[derive(Debug)]
pub(super) struct Credits {
    pub(super) bytes: Semaphore,
    pub(super) items: Semaphore,
}

impl Credits {
    async fn pay(&self, size: usize) -> Result<(), DeviceLinkError> {
        let gone = || DeviceLinkError::Unexpected { what: "the end of the link" };
        let size = u32::try_from(size).unwrap_or(u32::MAX);
        self.bytes.acquire_many(size).await.map_err(|_| gone())?.forget();
        self.items.acquire().await.map_err(|_| gone())?.forget();
        Ok(())
    }
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
    let mut stream: Option<LinkStream> = None;
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
            credits.pay(OUTPUT_EXTRA + body.len()).await?;
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
) -> Result<LinkStream, DeviceLinkError> {
    let mut stream = connection.open(Purpose::Execution).await.map_err(DeviceLinkError::Link)?;
    write_frame(&mut stream.write, &DeviceFrame::Attach(Attach { key, from })).await?;
    Ok(stream)
}

async fn finish(stream: Option<LinkStream>) {
    if let Some(mut stream) = stream {
        // A stream that cannot be finished is gone with its link.
        let _ = stream.write.shutdown().await;
    }
}
