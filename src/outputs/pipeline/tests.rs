//! What the thirty days do not single out.

use super::*;
use crate::outputs::Encoded;
use crate::reading::points::PointTable;
use crate::reading::{PointId, Value};
use crate::spool::batch::Encoder;

const SECOND: Duration = Duration::from_secs(1);
const AT: Timestamp = Timestamp::from_millis(1_790_000_000_000);

/// So many bytes for each reading.
struct Bulky(usize);

impl super::super::Encode for Bulky {
    fn encode(&mut self, _: &Arc<PointTable>, readings: &[Reading], most: usize, _: Timestamp) -> Encoded {
        let (taken, stamp) = (readings.len().min(most / self.0), readings.first().map(|reading| reading.at));
        Encoded { body: Some(vec![b' '; taken * self.0].into()), taken, not_sendable: 0, stamp }
    }

    fn extension(&self) -> &'static str {
        "txt"
    }
}

fn pipeline(encode: Bulky) -> Pipeline {
    let plan = OutputPlan {
        name: "file".to_owned(),
        encode: Box::new(encode),
        tells_time: false,
        takes_old_caches: false,
        split_refused_after: SECOND,
        start: Start::End,
    };
    Pipeline::new(Opened::default(), vec![plan], "boot", SECOND)
}

fn accept(pipeline: &mut Pipeline, readings: u32, now: Duration) {
    let mut encoder = Encoder::default();
    (0..readings).for_each(|n| encoder.push(&Reading { point: PointId(n), at: AT, value: Value::Integer(1) }));
    pipeline.accept(encoder.finish(Position(0), PointTable::empty(), None).unwrap(), None, now);
}

fn next(pipeline: &mut Pipeline, boot: Duration, ahead: Option<Duration>) -> Option<Action> {
    let moment = Moment { wall: AT, boot };
    pipeline.next(&Now { moment, believed: true, offset: None, too_far_ahead: &move |_| ahead })
}

/// What waits for the disk goes to that server; what is on its way there is not posted as well.
#[test]
fn what_is_set_aside_when_another_server_is_named_is_in_one_place() {
    for on_its_way in [true, false] {
        let mut pipeline = pipeline(Bulky(1));
        pipeline.disk.writes.failing = true;
        accept(&mut pipeline, 1, SECOND);
        let (mut posts, mut is_configured) = (0, false);
        for turn in 2..100 {
            let moment = Moment { wall: AT, boot: turn * SECOND };
            let now = Now { moment, believed: true, offset: None, too_far_ahead: &|_| None };
            let done = match pipeline.next(&now) {
                Some(Action::Disk(Job::Write(_))) => Done::Written(Written {
                    result: Ok(()),
                    end: Position(1),
                    durable: Position(1),
                    evicted: Vec::new(),
                    evicted_old: 0,
                    usage: Usage::default(),
                }),
                Some(Action::Disk(Job::SetAside(_))) if on_its_way => {
                    pipeline.configure_output("file", Some(Box::new(Bulky(1))), SECOND);
                    is_configured = true;
                    Done::SetAside { output: 0, result: Ok("quarantine/one".into()) }
                }
                Some(Action::Disk(Job::SetAside(_))) => {
                    let source = std::io::ErrorKind::StorageFull.into();
                    let error = SpoolError::Io { action: "write", path: "quarantine".into(), source };
                    pipeline.done(Done::SetAside { output: 0, result: Err(error) }, moment.boot, 0.5);
                    pipeline.configure_output("file", Some(Box::new(Bulky(1))), SECOND);
                    is_configured = true;
                    continue;
                }
                Some(Action::Post { .. }) => {
                    posts += 1;
                    let never = Failure::new(Verdict::RefusedForGood, "refused", "never");
                    let never = Failure { refused: vec![0], ..never };
                    let answer = Answer { result: if is_configured { Ok(()) } else { Err(never) }, server_time: None };
                    pipeline.answered(0, &answer, moment, 0.5);
                    continue;
                }
                _ => continue,
            };
            pipeline.done(done, moment.boot, 0.5);
        }
        let counters = &pipeline.published().outputs[0];
        let expected = if on_its_way { (1, 0, 1) } else { (2, 1, 0) };
        assert!(is_configured);
        assert_eq!((posts, counters.delivered, counters.quarantined), expected, "on its way: {on_its_way}");
    }
}

#[test]
fn what_is_not_ahead_of_the_servers_clock_any_more_goes_at_once() {
    let mut pipeline = pipeline(Bulky(1));
    // So that outputs read on from memory, and no log is needed.
    pipeline.disk.writes.failing = true;
    accept(&mut pipeline, 1, SECOND);
    let mut posts = |boot: Duration, ahead: Option<Duration>| {
        let actions = std::iter::from_fn(|| next(&mut pipeline, boot, ahead));
        actions.filter(|action| matches!(action, Action::Post { .. })).count()
    };
    assert_eq!(posts(2 * SECOND, Some(7_200 * SECOND)), 0);
    assert_eq!(posts(3 * SECOND, Some(7_199 * SECOND)), 0);
    // Another output's server has told the time.
    assert_eq!(posts(4 * SECOND, None), 1);
}

#[test]
fn what_is_left_over_of_a_batch_makes_no_post_of_its_own() {
    let mut pipeline = pipeline(Bulky(170));
    pipeline.disk.writes.failing = true;
    for _ in 0..30 {
        accept(&mut pipeline, 400, SECOND);
    }
    let mut posts = Vec::new();
    while let Some(action) = next(&mut pipeline, SECOND, None) {
        let Action::Post { body, .. } = action else { continue };
        posts.push(body.len() / 170);
        let now = Moment { wall: AT, boot: SECOND };
        pipeline.answered(0, &Answer { result: Ok(()), server_time: None }, now, 0.5);
    }
    assert_eq!(posts, [6_000, 6_000]);
}
