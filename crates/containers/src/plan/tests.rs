use proptest::prelude::*;
use troupe_types::{DeviceId, UserId, Uuid};

use super::*;

const NOW: i64 = 10_000_000;
const ABANDONED: Duration = Duration::from_secs(300);

fn at(seconds_ago: i64) -> Timestamp {
    Timestamp::from_millis(NOW - seconds_ago * 1_000)
}

fn task(n: u8) -> TaskId {
    TaskId::from_uuid(Uuid::from_u128(u128::from(n) + 1))
}

fn row(n: u8, since: i64, state: ContainerState) -> ContainerRow {
    ContainerRow {
        v: 1,
        task: task(n),
        owner: UserId::derived(&["ada"]),
        image: None,
        keep: false,
        since: at(since),
        asked_at: at(0),
        state,
    }
}

fn wanted(n: u8, since: i64) -> ContainerRow {
    row(n, since, ContainerState::Wanted)
}

fn running(n: u8) -> ContainerRow {
    let (node, name) = ("here".to_owned(), format!("c{n}"));
    let state = ContainerState::Running { node, name, device: DeviceId::derived(&["d"]) };
    ContainerRow { asked_at: at(1_000), ..row(n, 1_000, state) }
}

/// It worked, and has had nothing to do for so long.
fn idles(seconds: u64) -> Health {
    Health { idle: Some(Duration::from_secs(seconds)), worked: true, ..Health::default() }
}

/// The same, and its link has been down since then.
fn is_away(seconds: u64) -> Health {
    Health { away: Duration::from_secs(seconds), ..idles(seconds) }
}

/// What a pool sees, owned.
#[derive(Clone, Debug, Default)]
struct World {
    max: usize,
    warm_wanted: usize,
    rows: Vec<ContainerRow>,
    seen: Vec<Seen>,
    stuck: Vec<String>,
    warm: Vec<String>,
    in_hand: Vec<String>,
    warming: usize,
    starting: Vec<TaskId>,
    health: BTreeMap<TaskId, Health>,
    silent: BTreeMap<String, Duration>,
    elsewhere: usize,
    neighbours: Vec<Neighbour>,
}

impl World {
    fn new(max: usize, rows: Vec<ContainerRow>) -> Self {
        Self { max, rows, ..Self::default() }
    }

    /// All running containers are there; those of these Tasks have idled for so many seconds.
    fn living(mut self, idle: &[(u8, u64)]) -> Self {
        for row in &self.rows {
            if let ContainerState::Running { name, .. } = &row.state {
                self.seen.push(Seen { name: name.clone(), running: true });
            }
        }
        for (n, seconds) in idle {
            self.health.insert(task(*n), idles(*seconds));
        }
        self
    }

    fn warm(mut self, names: &[&str]) -> Self {
        for name in names {
            self.warm.push((*name).to_owned());
            self.seen.push(Seen { name: (*name).to_owned(), running: true });
        }
        self
    }

    fn steps(&self) -> Vec<Step> {
        let view = View {
            node: "here",
            max: self.max,
            warm_wanted: self.warm_wanted,
            idle_max: Duration::from_secs(600),
            now: at(0),
            rows: &self.rows,
            silent: &self.silent,
            abandoned: ABANDONED,
            elsewhere: self.elsewhere,
            seen: &self.seen,
            neighbours: &self.neighbours,
            stuck: &self.stuck,
            warm: &self.warm,
            in_hand: &self.in_hand,
            warming: self.warming,
            starting: &self.starting,
            health: &self.health,
        };
        view.steps()
    }
}

#[test]
fn the_oldest_wish_comes_first_and_takes_what_waits() {
    let world = World::new(2, vec![wanted(1, 5), wanted(2, 50), wanted(3, 1)]).warm(&["w"]);
    let expected = [Step::Start(task(2), Some("w".to_owned())), Step::Start(task(1), None)];
    assert_eq!(world.steps(), expected);
}

#[test]
fn what_cannot_be_removed_is_tried_again_and_takes_a_place() {
    let left = |n: &str| Seen { name: n.to_owned(), running: false };
    let mut world = World::new(2, vec![wanted(1, 5), wanted(2, 1)]);
    world.seen = vec![left("a"), left("gone")];
    world.stuck = vec!["a".to_owned(), "no-longer-there".to_owned()];
    let removes = ["a", "gone"].map(|name| Step::Remove(name.to_owned()));
    let start = Step::Start(task(1), None);
    assert_eq!(world.steps(), [removes.as_slice(), &[start]].concat());
}

#[test]
fn a_wish_for_another_image_takes_no_warm_one() {
    let mut other = wanted(1, 5);
    other.image = Some("other:1".to_owned());
    let world = World::new(2, vec![other.clone()]).warm(&["w"]);
    assert_eq!(world.steps(), [Step::Start(task(1), None)]);
    let full = World::new(1, vec![other]).warm(&["w"]);
    assert_eq!(full.steps(), [Step::Remove("w".to_owned())], "it makes room first");
}

#[test]
fn the_longest_idle_one_gives_way_if_somebody_waits() {
    let rows = vec![running(1), running(2), running(3), wanted(4, 1)];
    let world = World::new(3, rows.clone()).living(&[(1, 30), (2, 90)]);
    assert_eq!(world.steps(), [Step::Evict(task(2))]);
    let fresh = World::new(3, rows.clone()).living(&[(1, 3), (2, 3)]);
    assert_eq!(fresh.steps(), [], "a turn ended a moment ago: the next may follow");
    let nobody = World::new(3, rows[..3].to_vec()).living(&[(1, 30), (2, 599), (3, 600)]);
    assert_eq!(nobody.steps(), [Step::Evict(task(3))], "only what idled for too long");
    let mut kept = rows;
    kept[1].keep = true;
    assert_eq!(World::new(3, kept).living(&[(2, 9_000)]).steps(), [], "what is kept stays");
}

#[test]
fn what_is_dead_stale_or_unknown_goes() {
    let dead = World::new(3, vec![running(1)]);
    assert!(matches!(&dead.steps()[..], [Step::Retire(of, _)] if *of == task(1)));
    let mut world = World::new(3, vec![]).warm(&["w"]);
    world.seen.push(Seen { name: "stranger".to_owned(), running: true });
    world.seen.push(Seen { name: "mine".to_owned(), running: false });
    world.in_hand.push("mine".to_owned());
    assert_eq!(world.steps(), [Step::Remove("stranger".to_owned())]);
    let mut stale = wanted(1, 500);
    stale.asked_at = at(59);
    assert_eq!(World::new(3, vec![stale.clone()]).steps(), [], "nobody said it again");
    stale.asked_at = at(60);
    assert_eq!(World::new(3, vec![stale]).steps(), [Step::Drop(task(1))]);
    let begun = row(1, 5, ContainerState::Starting { node: "here".to_owned() });
    let again = World::new(3, vec![begun.clone()]);
    assert_eq!(again.steps(), [Step::Reset(task(1))], "an earlier process began it");
    let mut ours = World::new(3, vec![begun]);
    ours.starting.push(task(1));
    assert_eq!(ours.steps(), []);
}

#[test]
fn the_containers_of_a_silent_node_are_given_up_if_they_do_not_answer() {
    let (node, name) = ("there".to_owned(), "far".to_owned());
    let device = DeviceId::derived(&["d"]);
    let far = row(1, 9, ContainerState::Running { node: node.clone(), name, device });
    let begun = row(2, 9, ContainerState::Starting { node: node.clone() });
    let mut world = World::new(1, vec![far, begun, wanted(3, 1)]);
    world.silent.insert(node, ABANDONED - Duration::from_secs(1));
    assert_eq!(world.steps(), [Step::Start(task(3), None)], "they are not ours, and take no place");
    world.silent.clear();
    assert_eq!(world.steps()[0], Step::Reset(task(2)), "nobody knows whether it works");
    world.health.insert(task(1), Health { idle: None, ..is_away(59) });
    assert_eq!(world.steps()[0], Step::Reset(task(2)), "its link may be on its way");
    world.health.insert(task(1), Health { idle: None, ..is_away(60) });
    let steps = world.steps();
    let [Step::Retire(of, gone), Step::Reset(_), ..] = &steps[..] else { panic!("{steps:?}") };
    assert!(*of == task(1) && gone.anew, "it begins anew elsewhere: {gone:?}");
    world.health.insert(task(1), Health { idle: None, ..Health::default() });
    assert_eq!(world.steps()[0], Step::Reset(task(2)), "it works on without its node");
    world.health.insert(task(1), idles(600));
    assert_eq!(world.steps()[0], Step::Evict(task(1)), "and is nobody's when it is done");
}

#[test]
fn what_a_node_that_is_given_up_left_in_this_engine_goes_once_no_task_has_it() {
    let (node, name) = ("there".to_owned(), "far".to_owned());
    let device = DeviceId::derived(&["d"]);
    let far = row(1, 9, ContainerState::Running { node: node.clone(), name, device });
    let mut world = World::new(1, vec![far]);
    let left = |name: &str, node: &str| Neighbour { name: name.to_owned(), node: node.to_owned() };
    world.neighbours = vec![left("far", "there"), left("warm", "there"), left("x", "unheard-of")];
    world.silent.insert(node.clone(), ABANDONED - Duration::from_secs(1));
    assert_eq!(world.steps(), []);
    world.silent.insert(node, ABANDONED);
    assert_eq!(world.steps(), [Step::Remove("warm".to_owned())]);
    world.rows.clear();
    assert_eq!(world.steps(), ["far", "warm"].map(|name| Step::Remove(name.to_owned())));
}

#[test]
fn one_that_its_task_has_not_found_yet_does_not_give_way() {
    let mut fresh = running(1);
    fresh.asked_at = at(119);
    let mut world = World::new(1, vec![fresh, wanted(2, 60)]).living(&[(1, 119)]);
    world.health.insert(task(1), Health { worked: false, ..idles(119) });
    assert_eq!(world.steps(), [], "it is awaited");
    world.health.insert(task(1), idles(119));
    assert_eq!(world.steps(), [Step::Evict(task(1))], "it was found and worked");
    world.rows[0].asked_at = at(120);
    world.health.insert(task(1), Health { worked: false, ..idles(120) });
    assert_eq!(world.steps(), [Step::Evict(task(1))], "its Task does not come");
}

#[test]
fn one_that_never_answers_is_not_held_for_ever() {
    let retired = |health: Health| {
        let mut kept = running(1);
        kept.keep = true;
        let mut world = World::new(1, vec![kept]).living(&[]);
        world.health.insert(task(1), health);
        matches!(&world.steps()[..], [Step::Retire(of, gone)] if *of == task(1) && !gone.anew)
    };
    let never = |seconds| Health { worked: false, ..is_away(seconds) };
    assert_eq!([119, 120].map(|s| retired(never(s))), [false, true]);
    assert_eq!([1_799, 1_800].map(|s| retired(is_away(s))), [false, true]);
    let works = |seconds| Health { idle: None, ..is_away(seconds) };
    assert!(!retired(works(9_000)), "its attempt has a lease");
    let deaf = |seconds| Health { unanswered: Duration::from_secs(seconds), ..Health::default() };
    assert_eq!([599, 600].map(|s| retired(deaf(s))), [false, true]);
}

#[test]
fn nothing_gives_way_while_another_pool_has_room() {
    let mut world = World::new(1, vec![running(1), wanted(2, 9)]).living(&[(1, 60)]);
    world.elsewhere = 1;
    assert_eq!(world.steps(), [], "the other takes it");
    world.rows.push(wanted(3, 8));
    assert_eq!(world.steps(), [Step::Evict(task(1))], "but not both");
    world.rows.pop();
    world.rows[1].since = at(10);
    assert_eq!(world.steps(), [Step::Evict(task(1))], "it did not");
}

fn state() -> impl Strategy<Value = u8> {
    0..8_u8
}

proptest! {
    /// Whatever a pool sees: it never plans more than it may have, touches nothing that works, and
    /// plans nothing twice.
    #[test]
    fn a_pool_keeps_its_bounds(
        max in 1..6_usize,
        warm_wanted in 0..4_usize,
        states in prop::collection::vec((state(), 0..200_i64, any::<bool>(), 0..3_u8), 0..12),
        warm in 0..3_usize,
        warming in 0..2_usize,
    ) {
        let mut world = World { max, warm_wanted, warming, ..World::default() };
        let mut working = Vec::new();
        for (n, (state, age, keep, idle)) in states.into_iter().enumerate() {
            let n = u8::try_from(n).unwrap();
            let mut made = match state {
                0..=2 => wanted(n, age),
                3..=5 => running(n),
                6 => row(n, age, ContainerState::Starting { node: "here".to_owned() }),
                _ => row(n, age, ContainerState::Failed { text: String::new() }),
            };
            made.keep = keep;
            if matches!(made.state, ContainerState::Running { .. }) {
                world.seen.push(Seen { name: format!("c{n}"), running: true });
                if idle == 0 {
                    working.push(made.task);
                } else {
                    world.health.insert(made.task, idles(u64::from(idle) * 400));
                }
            }
            if state == 6 && keep {
                world.starting.push(made.task);
            }
            world.rows.push(made);
        }
        let names: Vec<String> = (0..warm).map(|n| format!("w{n}")).collect();
        world = world.warm(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let steps = world.steps();
        let there = world.seen.len() + world.starting.len() + warming;
        let fresh = steps.iter().filter(|s| matches!(s, Step::Start(_, None) | Step::Warm)).count();
        prop_assert!(fresh == 0 || there + fresh <= max, "{there} and {fresh} more: {steps:?}");
        for step in &steps {
            match step {
                Step::Retire(of, _) | Step::Evict(of) => prop_assert!(!working.contains(of)),
                Step::Remove(name) => prop_assert!(world.warm.contains(name)),
                _ => {}
            }
        }
        let mut once: Vec<String> = steps.iter().map(|step| format!("{step:?}")).collect();
        once.sort();
        once.dedup();
        prop_assert!(steps.iter().all(|s| *s == Step::Warm) || once.len() == steps.len());
    }
}
