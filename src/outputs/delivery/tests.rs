//! The policy against servers of all kinds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::outputs::Encoded;
use crate::reading::points::{Builder, Device, Kind, Register};
use crate::reading::{PointId, Value};
use crate::spool::job::OldName;

const SECOND: Duration = Duration::from_secs(1);
const START: Duration = Duration::from_secs(7_200);
const NOW: u64 = 1_790_000_000_000;
/// What a reading takes in a body of [`Lines`].
const LINE: usize = 40;

/// Posts of lines `point at` of [`LINE`] bytes each, after a line with the stamp. What is NaN cannot be sent.
struct Lines;

impl Encode for Lines {
    fn encode(&mut self, _: &Arc<PointTable>, readings: &[Reading], room: usize, posted: Timestamp) -> Encoded {
        let most = (room / LINE).max(1);
        let taken = &readings[..readings.len().min(most)];
        let good: Vec<_> = taken.iter().filter(|reading| !reading.value.as_f64().is_nan()).collect();
        let newest = good.iter().map(|reading| reading.at).max().unwrap_or_default();
        let stamp = newest.max(posted.after(Duration::from_millis(1)));
        let lines: Vec<_> =
            good.iter().map(|reading| format!("{:>20} {:>18}\n", reading.point.0, reading.at)).collect();
        Encoded {
            body: (!good.is_empty()).then(|| format!("{stamp}\n{}", lines.concat()).into()),
            taken: taken.len(),
            not_sendable: taken.len() - good.len(),
            stamp: (!good.is_empty()).then_some(stamp),
        }
    }

    fn extension(&self) -> &'static str {
        "txt"
    }

    fn old(&self, batch: OldBatch, _: Timestamp) -> Result<Box<dyn OldLoad>, String> {
        let rows = batch.body.iter().map(|&byte| u32::from(byte)).collect();
        if batch.body.is_empty() { Err("no body".to_owned()) } else { Ok(Box::new(Bytewise { rows, at: batch.at })) }
    }
}

/// Each byte is a row of that series; one that is 0 is unsound.
struct Bytewise {
    rows: Vec<u32>,
    at: Timestamp,
}

impl OldLoad for Bytewise {
    fn unsound(&self) -> Option<Unsound> {
        let rows = self.rows.iter().filter(|&&series| series == 0).count();
        (rows > 0).then(|| Unsound { rows, at: self.at, body: b"unsound".to_vec(), why: "zero".to_owned() })
    }

    fn rows(&self) -> usize {
        self.rows.iter().filter(|&&series| series != 0).count()
    }

    fn series(&self, row: usize) -> u32 {
        self.rows.iter().copied().filter(|&series| series != 0).nth(row).unwrap()
    }

    fn at(&self, row: usize) -> Timestamp {
        self.at.after(Duration::from_millis(row as u64))
    }

    fn encode(&self, rows: &[usize], room: usize, posted: Timestamp) -> Encoded {
        let readings: Vec<_> = rows.iter().map(|&row| reading(self.series(row), self.at(row).as_millis())).collect();
        Lines.encode(&PointTable::empty(), &readings, room, posted)
    }
}

fn reading(point: u32, at: u64) -> Reading {
    Reading { point: PointId(point), at: Timestamp::from_millis(at), value: Value::Float(1.0) }
}

/// Polls of so many points.
fn polls(points: u32, polls: u64) -> Vec<Reading> {
    (0..polls).flat_map(|poll| (0..points).map(move |point| reading(point, NOW + poll))).collect()
}

fn table(name: &str) -> Arc<PointTable> {
    let mut builder = Builder::new("4c", name, SECOND);
    builder.push(&Device::new("a", 1, "g", 1_000), &Register::new("coil_1", "coil", 1, Kind::Integer));
    Arc::new(builder.build())
}

fn run(readings: Vec<Reading>) -> Vec<Run> {
    vec![Run { table: table("host"), readings }]
}

fn delivery(patience: Duration) -> Delivery {
    Delivery::new(Box::new(Lines), patience, Timestamp::default())
}

fn refusal(verdict: Verdict) -> Result<(), Failure> {
    Err(Failure::new(verdict, "refused", "no"))
}

const LATER: Verdict = Verdict::Later { after: None, late: false };
const LATE: Verdict = Verdict::Later { after: None, late: true };

/// What a body says: (point, at) each.
fn lines(body: &[u8]) -> Vec<(u32, u64)> {
    let text = std::str::from_utf8(body).unwrap();
    let numbers = |line: &str| {
        let (point, at) = line.trim().split_once(' ').unwrap();
        (point.parse().unwrap(), at.trim().parse().unwrap())
    };
    text.lines().skip(1).map(numbers).collect()
}

/// A server, the clock, and everything that has happened.
struct World {
    now: Duration,
    random: fastrand::Rng,
    /// Everything accepted, in order; controls and repetitions too.
    accepted: Vec<(u32, u64)>,
    quarantined: Vec<(u32, u64)>,
    files: usize,
    progress: Progress,
    posts: usize,
    stamps: BTreeMap<String, Bytes>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            now: START,
            random: fastrand::Rng::with_seed(seed),
            accepted: Vec::new(),
            quarantined: Vec::new(),
            files: 0,
            progress: Progress::default(),
            posts: 0,
            stamps: BTreeMap::new(),
        }
    }

    /// Delivers what is loaded until it is all done, or for at most `time`; `answer` is the server.
    fn deliver(
        &mut self,
        delivery: &mut Delivery,
        time: Duration,
        mut answer: impl FnMut(&mut fastrand::Rng, &Bytes) -> Result<(), Failure>,
    ) -> bool {
        let end = self.now + time;
        while self.now < end {
            match delivery.next(self.now) {
                Next::Empty => {
                    self.tally(delivery.progress());
                    return true;
                }
                Next::Wait(until) => {
                    assert!(until > self.now, "no turn without a deadline");
                    self.now = until;
                }
                Next::SetAside { body, readings, file_name, .. } => {
                    assert!(std::path::Path::new(&file_name).extension().is_some_and(|extension| extension == "txt"));
                    assert_eq!(lines(&body).len(), readings);
                    self.quarantined.extend(lines(&body));
                    self.files += 1;
                    delivery.set_aside();
                }
                Next::Post { body, newest, readings } => {
                    self.posts += 1;
                    let stamp = String::from_utf8(body.split(|&byte| byte == b'\n').next().unwrap().to_vec()).unwrap();
                    assert_eq!(stamp, delivery.stamp().to_string());
                    let before = self.stamps.insert(stamp, body.clone());
                    assert!(before.is_none_or(|before| before == body), "two bodies of one stamp");
                    // What cannot be sent counts too: nobody knows which of them it is.
                    assert!(lines(&body).iter().all(|&(_, at)| at <= newest.as_millis()));
                    assert!(readings <= 1 || lines(&body).len() <= readings);
                    let result = answer(&mut self.random, &body);
                    let refused = result.as_ref().err().map(|failure| &failure.refused);
                    if refused.is_none_or(|refused| !refused.is_empty()) {
                        let taken = lines(&body).into_iter().enumerate();
                        let taken = taken.filter(|(place, _)| refused.is_none_or(|refused| !refused.contains(place)));
                        self.accepted.extend(taken.map(|(_, line)| line));
                    }
                    let told = delivery.answered(&result, self.now, self.random.f64());
                    let verdict = result.as_ref().err().map(|failure| failure.verdict);
                    let is_final = matches!(verdict, None | Some(Verdict::RefusedForGood));
                    assert!(is_final || told.pause > Duration::ZERO, "whatever finishes nothing pauses");
                    self.now += Duration::from_millis(1);
                }
            }
            self.tally(delivery.progress());
        }
        false
    }

    fn tally(&mut self, progress: Progress) {
        assert_eq!(progress.passed, progress.delivered + progress.not_sendable + progress.quarantined);
        self.progress.passed += progress.passed;
        self.progress.delivered += progress.delivered;
        self.progress.not_sendable += progress.not_sendable;
        self.progress.quarantined += progress.quarantined;
    }

    /// Everything accepted, each once, by series in the order in which it came first.
    fn by_series(&self) -> BTreeMap<u32, Vec<u64>> {
        let mut seen = BTreeSet::new();
        let mut series: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for &(point, at) in self.accepted.iter().filter(|reading| seen.insert(**reading)) {
            series.entry(point).or_default().push(at);
        }
        series
    }
}

#[test]
fn readings_go_in_order_in_posts_as_large_as_the_way_allows() {
    let (mut world, mut delivery) = (World::new(1), delivery(60 * SECOND));
    let want = delivery.want();
    assert!((1_000..20_000).contains(&want), "{want}");
    let readings = polls(100, 1_000);
    delivery.load(run(readings.clone()));
    let limit = 9_000;
    let server = |_: &mut fastrand::Rng, body: &Bytes| {
        if body.len() > limit { refusal(Verdict::TooLarge) } else { Ok(()) }
    };
    assert!(world.deliver(&mut delivery, 60 * SECOND, server));
    let expected: Vec<_> = readings.iter().map(|reading| (reading.point.0, reading.at.as_millis())).collect();
    assert_eq!(world.accepted, expected, "each once, in order");
    assert!(world.posts < 800, "{}", world.posts);
    assert_eq!((world.progress.passed, world.progress.delivered), (100_000, 100_000));
    assert!(delivery.want() <= limit / LINE);
}

#[test]
fn runs_of_one_table_share_a_post_and_of_two_do_not() {
    for (names, posts) in [(["a", "a"], 1), (["a", "b"], 2)] {
        let (mut world, mut delivery) = (World::new(1), delivery(SECOND));
        delivery.load(names.map(|name| Run { table: table(name), readings: polls(3, 1) }).into());
        assert!(world.deliver(&mut delivery, SECOND, |_, _| Ok(())));
        assert_eq!((world.posts, world.progress.passed), (posts, 6));
    }
}

#[test]
fn a_doubtful_answer_is_followed_by_the_same_body_and_a_late_one_by_a_smaller_one() {
    let mut delivery = delivery(SECOND);
    delivery.load(run(polls(10, 1)));
    let Next::Post { body, .. } = delivery.next(START) else { panic!() };
    for n in 0..3 {
        let told = delivery.answered(&refusal(LATER), START, 0.5);
        assert!(told.failed && told.pause >= SECOND / 2, "{n}");
        assert_eq!(delivery.next(START), Next::Wait(START + told.pause));
        assert!(matches!(delivery.next(START + told.pause), Next::Post { body: again, .. } if again == body));
    }
    let stamp = delivery.stamp();
    delivery.answered(&refusal(LATE), START, 0.5);
    let Next::Post { body: smaller, readings: 5, .. } = delivery.next(START + 60 * SECOND) else { panic!() };
    assert!(smaller.len() < body.len() && delivery.stamp() > stamp);
    // A single reading cannot be smaller: then it is the same again.
    for _ in 0..4 {
        delivery.answered(&refusal(LATE), START, 0.5);
        delivery.next(START + 60 * SECOND);
    }
    let single = delivery.next(START + 60 * SECOND);
    assert!(matches!(single, Next::Post { readings: 1, .. }));
    delivery.answered(&refusal(LATE), START, 0.5);
    assert_eq!(delivery.next(START + 60 * SECOND), single);
}

#[test]
fn a_part_of_what_is_in_doubt_follows_the_whole_and_only_a_clock_that_was_set_back_is_followed_back() {
    let hours = |hours: u64| Timestamp::from_millis(NOW + hours * 3_600_000);
    // The whole of two hours is in doubt, then its first half goes.
    assert_eq!(to_follow(hours(2), hours(0), Some(hours(2))), hours(2));
    // The clock was three hours ahead when that stamp was given out.
    assert_eq!(to_follow(hours(3), hours(0), Some(hours(0))), Timestamp::default());
    // What was read by that clock keeps its order.
    assert_eq!(to_follow(hours(3), hours(3), Some(hours(0))), hours(3));
    // A clock that is not believed says nothing.
    assert_eq!(to_follow(hours(3), hours(0), None), hours(3));

    let mut delivery = delivery(START);
    delivery.set_wall(Some(hours(2)));
    delivery.load(run(vec![reading(0, NOW), reading(0, NOW + 7_200_000)]));
    let (mut now, mut stamps) = (START, Vec::new());
    let mut result = refusal(LATE);
    loop {
        match delivery.next(now) {
            Next::Post { body, .. } => {
                stamps.push(String::from_utf8(body.to_vec()).unwrap().lines().next().unwrap().to_owned());
                delivery.answered(&std::mem::replace(&mut result, Ok(())), now, 1.0);
            }
            Next::Wait(until) => now = until,
            Next::Empty => break,
            other @ Next::SetAside { .. } => panic!("{other:?}"),
        }
    }
    assert!(stamps.len() >= 2 && stamps.is_sorted_by(|one, next| one < next), "{stamps:?}");
}

#[test]
fn a_server_that_is_back_is_posted_to_within_ten_seconds() {
    for seed in 0..50 {
        let (mut world, mut delivery) = (World::new(seed), delivery(3_600 * SECOND));
        delivery.load(run(polls(10, 1)));
        assert!(!world.deliver(&mut delivery, 600 * SECOND, |_, _| refusal(LATER)));
        let back = world.now;
        assert!(world.deliver(&mut delivery, 11 * SECOND, |_, _| Ok(())));
        assert!(world.now.saturating_sub(back) <= 10 * SECOND);
    }
}

#[test]
fn the_server_may_ask_for_more_and_the_configuration_for_less() {
    let mut delivery = delivery(SECOND);
    delivery.load(run(polls(1, 1)));
    delivery.next(START);
    let after = Some(300 * SECOND);
    assert_eq!(delivery.answered(&refusal(Verdict::Later { after, late: false }), START, 0.0).pause, 300 * SECOND);
    delivery.set_max_backoff(2 * SECOND);
    for _ in 0..9 {
        delivery.next(START + 900 * SECOND);
        assert!(delivery.answered(&refusal(LATER), START, 1.0).pause <= 2 * SECOND);
    }
}

#[test]
fn what_refuses_us_is_loud_and_drops_nothing() {
    let (mut world, mut delivery) = (World::new(1), delivery(SECOND));
    delivery.load(run(polls(10, 2)));
    assert!(!world.deliver(&mut delivery, 86_400 * SECOND, |_, _| refusal(Verdict::RefusedUs)));
    assert_eq!((world.progress.passed, world.quarantined.len()), (0, 0));
    assert!(world.posts < 20_000, "with pauses");
    assert!(world.deliver(&mut delivery, 60 * SECOND, |_, _| Ok(())));
    assert_eq!(world.progress.delivered, 20);
}

#[test]
fn what_cannot_be_sent_is_counted_and_blocks_nothing() {
    let mut readings = polls(10, 3);
    for reading in readings.iter_mut().filter(|reading| reading.point.0 % 3 == 0) {
        reading.value = Value::Float(f64::NAN);
    }
    let (mut world, mut delivery) = (World::new(1), delivery(SECOND));
    delivery.load(run(readings));
    assert!(world.deliver(&mut delivery, SECOND, |_, _| Ok(())));
    assert_eq!((world.posts, world.progress.delivered, world.progress.not_sendable), (1, 18, 12));
    delivery.load(run(vec![Reading { value: Value::Float(f64::NAN), ..reading(1, NOW) }]));
    assert!(world.deliver(&mut delivery, SECOND, |_, _| Ok(())));
    assert_eq!((world.posts, world.progress.not_sendable), (1, 13));
}

fn poisoned(poison: &[u32]) -> impl Fn(&mut fastrand::Rng, &Bytes) -> Result<(), Failure> {
    move |_, body| {
        let any = lines(body).iter().any(|(point, _)| poison.contains(point));
        if any { refusal(Verdict::RefusedBody) } else { Ok(()) }
    }
}

#[test]
fn a_poisoned_series_is_found_in_few_posts_and_the_next_time_in_fewer() {
    let (mut world, mut delivery) = (World::new(1), delivery(60 * SECOND));
    for (load, most) in [(0, 70), (1, 12), (2, 12)] {
        let before = (world.posts, world.now);
        let readings = (0..5).flat_map(|poll| (0..1_000).map(move |point| reading(point, NOW + 5 * load + poll)));
        delivery.load(run(readings.collect()));
        assert!(world.deliver(&mut delivery, 600 * SECOND, poisoned(&[333])));
        let posts = world.posts - before.0;
        assert!(posts <= most, "{posts} posts");
        assert!(
            load == 0 || world.now.saturating_sub(before.1) < 10 * SECOND,
            "{:?}",
            world.now.saturating_sub(before.1)
        );
    }
    assert_eq!((world.progress.delivered, world.progress.quarantined), (3 * 4_995, 15));
    assert_eq!(world.quarantined, (0..15).map(|poll| (333, NOW + poll)).collect::<Vec<_>>());
    let series = world.by_series();
    assert_eq!(series.len(), 999);
    assert!(series.values().all(|ats| ats.is_sorted() && ats.len() == 15));
}

#[test]
fn a_series_alone_is_judged_by_what_was_accepted_before() {
    let (mut world, mut delivery) = (World::new(1), delivery(60 * SECOND));
    delivery.load(run(polls(1, 1)));
    assert!(world.deliver(&mut delivery, SECOND, |_, _| Ok(())));
    delivery.load(run(vec![reading(7, NOW + 1)]));
    assert!(world.deliver(&mut delivery, 600 * SECOND, poisoned(&[7])));
    assert_eq!((world.progress.delivered, world.progress.quarantined), (1, 1));
}

#[test]
fn while_everything_is_refused_nothing_is_condemned() {
    let (mut world, mut delivery) = (World::new(1), delivery(60 * SECOND));
    delivery.load(run(polls(20, 5)));
    assert!(!world.deliver(&mut delivery, 86_400 * SECOND, |_, _| refusal(Verdict::RefusedBody)));
    assert_eq!(world.progress, Progress::default());
    assert!(world.deliver(&mut delivery, 600 * SECOND, |_, _| Ok(())));
    assert_eq!((world.progress.delivered, world.quarantined.len()), (100, 0));
}

/// Takes nothing that is older than `oldest`, nor of these series, and says which readings these are.
fn never(oldest: u64, series: &[u32], body: &Bytes) -> Result<(), Failure> {
    let lines = lines(body);
    let is_refused = |place: &usize| lines[*place].1 < oldest || series.contains(&lines[*place].0);
    let refused: Vec<usize> = (0..lines.len()).filter(is_refused).collect();
    let verdict = Verdict::RefusedForGood;
    if refused.is_empty() { Ok(()) } else { Err(Failure { verdict, kind: "refused", text: "no".to_owned(), refused }) }
}

/// Nothing was accepted in this life, so there is nothing to compare with: the server's word is enough.
#[test]
fn what_will_never_be_taken_is_set_aside_at_once_and_stops_nothing() {
    let (mut world, mut delivery) = (World::new(1), delivery(3_600 * SECOND));
    delivery.load(run(polls(50, 400)));
    assert!(world.deliver(&mut delivery, 600 * SECOND, |_, body| never(NOW + 390, &[], body)));
    assert_eq!((world.progress.delivered, world.progress.quarantined), (50 * 10, 50 * 390));
    assert!(world.quarantined.iter().all(|&(_, at)| at < NOW + 390));
    assert!(world.posts < 10 && world.files == 1, "{} {}", world.posts, world.files);
    delivery.load(run(polls(50, 500).split_off(50 * 400)));
    assert!(world.deliver(&mut delivery, SECOND, |_, body| never(NOW + 390, &[7], body)));
    assert_eq!((world.progress.delivered, world.progress.quarantined), (50 * 10 + 49 * 100, 50 * 390 + 100));
    // While others are searched for, too.
    delivery.load(run(polls(50, 510).split_off(50 * 500)));
    let poisoned = poisoned(&[3]);
    assert!(world.deliver(&mut delivery, 60 * SECOND, |random, body| {
        poisoned(random, body).map_err(|failure| Failure { verdict: Verdict::RefusedPart, ..failure })?;
        never(NOW + 390, &[7], body)
    }));
    assert_eq!((world.progress.delivered, world.progress.quarantined), (50 * 10 + 49 * 100 + 480, 50 * 390 + 120));
    let series = world.by_series();
    assert!(series.values().all(|ats| ats.is_sorted()));
    assert_eq!((series[&0].len(), series[&3].len(), series[&7].len()), (120, 110, 10));
}

/// What cannot be sent has no place in the body, but has one among the readings.
#[test]
fn what_is_refused_for_good_is_known_by_its_place_among_the_readings() {
    let mut delivery = delivery(SECOND);
    let mut readings = polls(4, 1);
    readings[1].value = Value::Float(f64::NAN);
    delivery.load(run(readings));
    let Next::Post { .. } = delivery.next(START) else { panic!() };
    let failure =
        Failure { verdict: Verdict::RefusedForGood, kind: "refused", text: "no".to_owned(), refused: vec![2, 99] };
    assert_eq!(delivery.answered(&Err(failure), START, 0.5), Told::default());
    let Next::SetAside { body, readings: 1, why, .. } = delivery.next(START) else { panic!() };
    assert_eq!((lines(&body), &*why), (vec![(2, NOW)], "the server will never take them: no"));
    delivery.set_aside();
    assert_eq!(delivery.next(START), Next::Empty);
    assert_eq!(delivery.progress(), Progress { passed: 4, delivered: 2, not_sendable: 1, quarantined: 1 });
}

/// B11: half of the posts refused at random for a minute, `split_refused_after: 1s`.
#[test]
fn random_refusals_for_a_minute_condemn_nothing() {
    for seed in 0..300 {
        let (mut world, mut delivery) = (World::new(seed), delivery(SECOND));
        let points = world.random.u32(1..30);
        let end = world.now + 60 * SECOND;
        let mut sent = 0;
        while world.now < end {
            let readings = (0..points).map(|point| reading(point, NOW + sent));
            delivery.load(run(readings.collect()));
            sent += 1;
            let left = end.saturating_sub(world.now);
            world.deliver(
                &mut delivery,
                left,
                |random, _| {
                    if random.bool() { refusal(Verdict::RefusedBody) } else { Ok(()) }
                },
            );
            world.now += SECOND / 5;
        }
        assert!(world.deliver(&mut delivery, 600 * SECOND, |_, _| Ok(())), "seed {seed}");
        assert_eq!(world.progress.delivered as u64, u64::from(points) * sent, "seed {seed}");
        assert!(world.quarantined.is_empty(), "seed {seed}");
        assert!(world.by_series().values().all(|ats| ats.is_sorted()), "seed {seed}");
    }
}

#[test]
fn what_is_to_be_set_aside_is_given_out_until_it_is_on_disk() {
    let mut delivery = delivery(Duration::ZERO);
    delivery.load(run(polls(2, 1)));
    let mut now = START;
    let aside = loop {
        match delivery.next(now) {
            Next::Post { body, .. } => {
                delivery.answered(&poisoned(&[1])(&mut fastrand::Rng::new(), &body), now, 0.5);
            }
            Next::Wait(until) => now = until,
            other => break other,
        }
    };
    let Next::SetAside { file_name, readings: 1, why, .. } = &aside else { panic!("{aside:?}") };
    assert!(file_name.starts_with(&format!("{NOW}_")) && why.contains("refused by the server"), "{file_name}");
    assert_eq!(delivery.next(now), aside);
    assert_eq!(delivery.progress().passed, 1, "what is not on disk is not passed");
    delivery.set_aside();
    assert_eq!(delivery.next(now), Next::Empty);
    assert_eq!(delivery.progress(), Progress { passed: 1, quarantined: 1, ..Progress::default() });
}

#[test]
fn another_server_is_asked_at_once_and_condemns_for_itself() {
    let mut delivery = delivery(Duration::ZERO);
    delivery.load(run(polls(2, 1)));
    let mut now = START;
    while !matches!(delivery.next(now), Next::SetAside { .. }) {
        match delivery.next(now) {
            Next::Post { body, .. } => {
                delivery.answered(&poisoned(&[1])(&mut fastrand::Rng::new(), &body), now, 0.5);
            }
            Next::Wait(until) => now = until,
            other => panic!("{other:?}"),
        }
    }
    delivery.configure(None, SECOND);
    assert!(matches!(delivery.next(now), Next::SetAside { .. }));
    let stamp = delivery.stamp();
    delivery.configure(Some(Box::new(Lines)), SECOND);
    assert!(matches!(delivery.next(now), Next::SetAside { .. }), "it may be on its way to the disk");
    delivery.take_back();
    let Next::Post { body, .. } = delivery.next(now) else { panic!() };
    assert_eq!(lines(&body), [(1, NOW)]);
    assert!(delivery.stamp() > stamp);
    delivery.answered(&refusal(Verdict::Later { after: Some(300 * SECOND), late: false }), now, 0.5);
    delivery.configure(None, SECOND);
    assert!(matches!(delivery.next(now), Next::Post { .. }), "no pause of the old configuration goes on");
    delivery.answered(&Ok(()), now, 0.5);
    assert_eq!(delivery.next(now), Next::Empty);
    assert_eq!(delivery.progress().delivered, 2);
}

#[test]
fn an_old_batch_is_delivered_without_moving_the_cursor() {
    let (mut world, mut delivery) = (World::new(1), delivery(60 * SECOND));
    let batch = |body: &[u8]| OldBatch {
        name: OldName("a".to_owned()),
        at: Timestamp::from_millis(NOW),
        body: body.to_vec(),
        left: 1,
    };
    let now = Timestamp::from_millis(NOW);
    assert_eq!(delivery.load_old(batch(b""), now), Err("no body".to_owned()));
    assert_eq!(delivery.next(START), Next::Empty);

    delivery.load_old(batch(&[1, 0, 2, 3, 1, 2, 3, 1]), now).unwrap();
    let Next::SetAside { file_name, body, readings: 1, why } = delivery.next(START) else { panic!() };
    assert!(file_name.starts_with(&format!("{NOW}_")) && body == b"unsound" && why == "zero");
    delivery.set_aside();
    assert_eq!(delivery.progress(), Progress { quarantined: 1, ..Progress::default() });

    let mut progress = Progress::default();
    for _ in 0..1_000 {
        match delivery.next(world.now) {
            Next::Post { body, .. } => {
                let answer = poisoned(&[2])(&mut world.random, &body);
                if answer.is_ok() {
                    world.accepted.extend(lines(&body));
                }
                delivery.answered(&answer, world.now, 0.5);
            }
            Next::Wait(until) => world.now = until,
            Next::SetAside { .. } => delivery.set_aside(),
            Next::Empty => break,
        }
        let Progress { passed, delivered, not_sendable, quarantined } = delivery.progress();
        progress.passed += passed;
        progress.delivered += delivered;
        progress.not_sendable += not_sendable;
        progress.quarantined += quarantined;
    }
    assert_eq!(progress, Progress { delivered: 5, quarantined: 2, ..Progress::default() });
    let series = world.by_series();
    assert_eq!(series.keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert!(series.values().all(|ats| ats.is_sorted()));
}

proptest! {
    /// Whatever a server does for a while: when it is well again, everything but what it never takes is delivered, each series
    /// in order, and everything is counted once.
    #[test]
    fn nothing_is_lost_whatever_the_server_does(
        seed in any::<u64>(),
        points in 1..40_u32,
        rounds in 1..30_u64,
        poison in proptest::option::of(0..40_u32),
        patience in 0..90_u64,
        trouble in 0..600_u64,
        limit in 100..100_000_usize,
        unsendable in proptest::option::of(0..40_u32),
        oldest in prop_oneof![2 => Just(0), 1 => 0..30_u64],
    ) {
        let (mut world, mut delivery) = (World::new(seed), delivery(Duration::from_secs(patience)));
        // This server does not see what was not sent, so it could not give the places of others.
        let oldest = if unsendable.is_some() { 0 } else { oldest };
        let poison: Vec<u32> = poison.into_iter().filter(|&point| points > 1 && point < points).collect();
        let mut readings = polls(points, rounds);
        for reading in readings.iter_mut().filter(|reading| Some(reading.point.0) == unsendable) {
            reading.value = Value::Float(f64::NAN);
        }
        let (first, second) = readings.split_at(readings.len() / 2);
        let poisoned = poisoned(&poison);
        let troubled = |random: &mut fastrand::Rng, body: &Bytes| match random.u8(0..12) {
            0 => refusal(LATER),
            1 => refusal(LATE),
            2 => refusal(Verdict::RefusedUs),
            3 | 4 => refusal(Verdict::RefusedBody),
            5 => refusal(Verdict::Later { after: Some(SECOND), late: true }),
            6 => refusal(Verdict::RefusedPart),
            _ if body.len() > limit => refusal(Verdict::TooLarge),
            _ => poisoned(random, body).and_then(|()| never(NOW + oldest, &[], body)),
        };
        let well = |random: &mut fastrand::Rng, body: &Bytes| {
            if body.len() > limit && lines(body).len() > 1 { refusal(Verdict::TooLarge) } else { poisoned(random, body) }
                .and_then(|()| never(NOW + oldest, &[], body))
        };
        for part in [first, second] {
            delivery.load(run(part.to_vec()));
            let done = world.deliver(&mut delivery, Duration::from_secs(trouble), troubled)
                || world.deliver(&mut delivery, 86_400 * SECOND, well);
            // A server that has never taken anything else is at fault itself.
            prop_assert!(done || world.accepted.is_empty());
            prop_assume!(done);
        }
        prop_assert_eq!(world.progress.passed, readings.len());
        let refused = world.quarantined.iter().filter(|&&(_, at)| at >= NOW + oldest);
        let refused: BTreeSet<_> = refused.map(|&(point, _)| point).collect();
        prop_assert!(refused.iter().all(|point| poison.contains(point)), "{:?}", refused);
        let series = world.by_series();
        for point in (0..points).filter(|point| !poison.contains(point) && Some(*point) != unsendable) {
            let expected: Vec<_> = (oldest..rounds).map(|poll| NOW + poll).collect();
            prop_assert_eq!(series.get(&point).cloned().unwrap_or_default(), expected);
            let aside = world.quarantined.iter().filter(|&&(of, _)| of == point).count();
            prop_assert_eq!(aside as u64, oldest.min(rounds), "of {}", point);
        }
    }
}
