//! A reader that begins further back than a Task's memory reaches.

use tokio::sync::mpsc;
use troupe_entities::TaskAddress;
use troupe_sharding::StreamItem;
use troupe_types::FrameSeq;

/// Pages from the archive until the Task's memory reaches back far enough, then follows it.
pub(super) async fn catch_up(
    address: TaskAddress,
    mut after: FrameSeq,
    to: mpsc::Sender<StreamItem>,
) {
    loop {
        let before = after;
        match address.raw_frames(after, 2_000).await {
            Ok(frames) if !frames.is_empty() => {
                after = frames.last().map_or(after, |f| f.seq);
                if to.send(StreamItem::Frames(frames.into())).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(_) => break,
        }
        let Ok((reply, mut stream)) = address.subscribe(after).await else { break };
        if reply.following {
            while let Some(item) = stream.recv().await {
                let last = !matches!(item, StreamItem::Frames(_));
                if to.send(item).await.is_err() || last {
                    return;
                }
            }
            return;
        }
        if after == before {
            // Nothing more is to be read, and yet it does not reach: start over from a page.
            break;
        }
    }
    let _ = to.send(StreamItem::Ended).await;
}
