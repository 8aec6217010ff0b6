//! Links by themselves: Router to Router beside bare `ractor_cluster` and bare quinn, a device's
//! link beside bare quinn. All ends are in this process, over loopback.
//!
//! Every round measures all of them, one after the other, so that what else the machine does
//! falls on each; figures are of all rounds together.

mod bare;
mod edge;
mod nodes;
mod quic;

use std::time::Duration;

use anyhow::{Context as _, Result};
use troupe_link::NodeCa;
use troupe_types::{SystemClock, Uuid};

use self::{bare::Bare, edge::Edge, nodes::Nodes, quic::Pair};
use crate::stats::{self, Rate, Times, note, row, verdict};

/// Bytes of a message between nodes.
const MESSAGE_BYTES: usize = 64;
/// Messages that nobody has handled yet, of whoever sends without waiting for answers.
const WINDOW: u32 = 2_048;
/// Messages of a batch of the bare actor: what the Router calls company.
const BATCH: u32 = 64;
/// Entities that messages between nodes are for, in turn.
const ENTITIES: u32 = 1_000;
/// Bytes of a device's output: a small piece of text, and a large tool result.
const OUTPUTS: [usize; 2] = [200, 4_096];
/// Askers at once, besides one.
const CALLERS: [u32; 2] = [64, 1_024];

/// The id of the `n`th of them, beginning anew after the last: in no order.
fn entity_id(n: u32) -> Uuid {
    let id = u128::from(n % ENTITIES + 1);
    Uuid::from_u128(id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834))
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How often everything is measured
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// Messages, or frames, of each part of a round; a tenth of it one after the other
    #[arg(long, default_value_t = 100_000)]
    count: u32,
}

/// Everything that is measured.
#[derive(Debug, Default)]
struct Figures {
    round_trips: Times,
    ask: Times,
    asks: [(Rate, Times); CALLERS.len()],
    casts: Rate,
    batches: Rate,
    routed: Rate,
    routed_batches: Rate,
    tells: Rate,
    streams: [Rate; OUTPUTS.len()],
    outputs: [Rate; OUTPUTS.len()],
}

pub(crate) async fn run(args: &Args) -> Result<()> {
    let ca = NodeCa::create("bench", SystemClock::shared().now()).context("a CA")?;
    let pair = Pair::connect(&ca).await.context("bare quinn")?;
    let bare = Bare::connect(&pair).await.context("bare ractor_cluster")?;
    let nodes = Nodes::start(&ca).await.context("two nodes")?;
    let mut edge = Edge::connect().await.context("a device's link")?;
    let mut all = Figures::default();
    for round in 1..=args.rounds {
        note(&format!("round {round} of {}", args.rounds));
        all.round_trips.append(pair.round_trips(args.count / 10, MESSAGE_BYTES).await?);
        all.ask.append(nodes.asks(1, args.count / 10).await?.1);
        let count = args.count;
        for (callers, (rate, times)) in CALLERS.into_iter().zip(&mut all.asks) {
            let asking = async {
                let (took, measured) = nodes.asks(callers, count).await?;
                times.append(measured);
                Ok(took)
            };
            measure(rate, count, asking).await?;
        }
        measure(&mut all.casts, count, bare.casts(count, 1)).await?;
        measure(&mut all.batches, count, bare.casts(count, BATCH)).await?;
        measure(&mut all.routed, count, bare.routed(count, 1)).await?;
        measure(&mut all.routed_batches, count, bare.routed(count, BATCH)).await?;
        measure(&mut all.tells, count, nodes.tells(count)).await?;
        for (n, bytes) in OUTPUTS.into_iter().enumerate() {
            let size = edge::frame_bytes(bytes)?;
            measure(&mut all.streams[n], count, pair.stream(count, size)).await?;
            measure(&mut all.outputs[n], count, edge.outputs(count, bytes)).await?;
        }
    }
    nodes.stop().await;
    bare.stop();
    tell(&mut all)
}

/// With the processor time of this process, which is that of both ends.
async fn measure(
    rate: &mut Rate,
    count: u32,
    run: impl Future<Output = Result<Duration>>,
) -> Result<()> {
    let pid = std::process::id();
    let before = stats::cpu_time(pid)?;
    rate.add(count as usize, run.await?);
    rate.spend(stats::cpu_time(pid)?.saturating_sub(before));
    Ok(())
}

fn tell(all: &mut Figures) -> Result<()> {
    row(&format!("bare quinn, round trip of {MESSAGE_BYTES} bytes"), all.round_trips.micros());
    let aim = all.round_trips.p50().mul_f64(1.5) + Duration::from_micros(100);
    let is_met = verdict(all.ask.p50() <= aim);
    let aim = format!("p50 at most 1.5 times bare and 100 µs ({} µs): {is_met}", aim.as_micros());
    row("ask of another node's entity, one at a time", format!("{}; {aim}", all.ask.micros()));
    for (callers, (rate, times)) in CALLERS.into_iter().zip(&mut all.asks) {
        let figure = format!("{rate} asks/s, {}, {}", times.micros(), rate.cost());
        row(&format!("the same, {callers} at once"), figure);
    }
    tell_messages(all);
    for (n, bytes) in OUTPUTS.into_iter().enumerate() {
        let size = edge::frame_bytes(bytes)?;
        let (bare, link) = (&all.streams[n], &all.outputs[n]);
        let figure = format!("{bare} frames/s, {}", bare.cost());
        row(&format!("bare quinn, a stream of {size} bytes a write"), figure);
        let share = link.over(bare);
        let figure = format!(
            "{link} frames/s, {}, {share:.2} times bare quinn; at least 0.8: {}",
            link.cost(),
            verdict(share >= 0.8)
        );
        row(&format!("a device's output of {bytes} bytes, credit and acks included"), figure);
    }
    Ok(())
}

fn tell_messages(all: &Figures) {
    let bare = |to: &str, single: &Rate, batched: &Rate| {
        let each = format!("bare `ractor_cluster`, {to}, a cast for each message");
        row(&each, format!("{single} messages/s, {}", single.cost()));
        let figure = format!("{batched} messages/s, {}", batched.cost());
        row(&format!("the same, {BATCH} messages to a cast"), figure);
    };
    bare("one actor", &all.casts, &all.batches);
    bare(&format!("a Router and {ENTITIES} actors"), &all.routed, &all.routed_batches);
    let share = all.tells.over(&all.routed);
    let figure = format!(
        "{} messages/s, each answered, {}: {share:.2} times a bare Router with a cast for each, \
         at least 0.9: {}; {:.2} times one with {BATCH} to a cast; {:.2} times one actor",
        all.tells,
        all.tells.cost(),
        verdict(share >= 0.9),
        all.tells.over(&all.routed_batches),
        all.tells.over(&all.casts),
    );
    row("tells of the Router, in its batches", figure);
}
