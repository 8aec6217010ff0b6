//! Whatever happens to the network of a machine behind a router, nothing is lost.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::time::Instant;
use troupe_testkit::try_until;

use super::{
    back::{Back, KILL, P95_MAX},
    faults::{Door, beyond, counting, follows, number, whole},
    kit::{Machine, is_free},
    router::Router,
};

/// Faults unless `TROUPE_TEST_CUTS` says otherwise.
const CUTS: u64 = 20;

/// What can happen to a network.
#[derive(Clone, Copy, Debug)]
enum Weather {
    Cut {
        up: bool,
        down: bool,
    },
    /// The router knows it by another port.
    Rebound,
    /// It has another address.
    Moved,
    /// Datagrams of a thousand.
    Loss(u32),
}

impl Weather {
    fn begins(self, router: &Router) -> Result<()> {
        match self {
            Self::Cut { up, down } => router.cut(up, down),
            Self::Rebound => router.rebind(),
            Self::Moved => router.move_on(),
            Self::Loss(thousandths) => router.lose(thousandths),
        }
    }
}

/// What can happen between a device and a viewer.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Network(Weather),
    Kill,
}

impl Fault {
    fn any(dice: &mut StdRng) -> Self {
        Self::Network(match dice.random_range(0..18) {
            0..4 => Weather::Cut { up: true, down: true },
            4..6 => Weather::Cut { up: true, down: false },
            6..8 => Weather::Cut { up: false, down: true },
            8..11 => Weather::Rebound,
            11..14 => Weather::Loss(dice.random_range(10..300)),
            14..16 => Weather::Moved,
            _ => return Self::Kill,
        })
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Network(Weather::Cut { up: true, down: true }) => "cut both ways",
            Self::Network(Weather::Cut { up: true, .. }) => "cut from the device",
            Self::Network(Weather::Cut { .. }) => "cut to the device",
            Self::Network(Weather::Rebound) => "another port",
            Self::Network(Weather::Moved) => "another address",
            Self::Network(Weather::Loss(_)) => "loss of 1 to 30 %",
            Self::Kill => KILL,
        }
    }
}

/// Random faults one after the other, on real QUIC through a real router: after each the stream
/// goes on.
#[tokio::test]
async fn any_faults_in_a_row_lose_nothing() -> Result<()> {
    let seed = number("TROUPE_TEST_SEED", rand::random());
    let cuts = number("TROUPE_TEST_CUTS", CUTS);
    println!("TROUPE_TEST_SEED={seed} TROUPE_TEST_CUTS={cuts}");
    let mut dice = StdRng::seed_from_u64(seed);
    let Some(router) = Router::new()? else { return Ok(()) };
    let (door, mut node) = Door::outside(router.here()).await?;
    // A key: a login ends before the long form does.
    let who = node.with_key(&node.setup().await?).await?;
    let mut machine = Machine::new(None)?.within(&router.prefix());
    machine.allow_sh()?;
    let device = machine.join(&node, &who).await?;
    let task = counting(&node, &who, &machine).await?;
    let mut slowest = Duration::ZERO;
    let mut back = Back::watch(&node, &who, &task);
    for cut in 0..cuts {
        let until = Instant::now() + Duration::from_millis(dice.random_range(0..4_000));
        let fault = Fault::any(&mut dice);
        match fault {
            Fault::Network(fault) => fault.begins(&router)?,
            Fault::Kill => {
                back.gone();
                node.kill().await?;
                node = door.again().await?;
                back.again(&node);
            }
        }
        try_until(Duration::from_secs(5), async || Instant::now() >= until).await;
        router.clear()?;
        let begun = Instant::now();
        let context = || format!("cut {cut}: {fault:?}\n{}", machine.log());
        back.streams(fault.name()).await.with_context(context)?;
        let now = beyond(&machine, 0).await?;
        follows(&node, &who, &task, now).await.with_context(context)?;
        slowest = slowest.max(begun.elapsed());
    }
    println!("{cuts} faults; all there again within {:.2} s", slowest.as_secs_f64());
    let p95 = back.report().unwrap_or_default();
    // A machine that does other things is no measure.
    let is_long = std::env::var_os("TROUPE_TEST_CUTS").is_some();
    ensure!(!is_long || p95 < P95_MAX, "streaming again after {p95:?}");
    machine.put_beside("n", "go")?;
    whole(&node, &who, &task).await?;
    is_free(&node, &who, &device).await
}
