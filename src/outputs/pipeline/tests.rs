//! What the thirty days do not single out.

use super::*;
use crate::outputs::Encoded;
use crate::reading::points::PointTable;
use crate::reading::{PointId, Value};
use crate::spool::batch::Encoder;

const SECOND: Duration = Duration::from_secs(1);

/// One post for each reading.
struct One;

impl super::super::Encode for One {
    fn encode(&mut self, _: &Arc<PointTable>, readings: &[Reading], _: usize, _: Timestamp) -> Encoded {
        let stamp = readings.first().map(|reading| reading.at);
        Encoded { body: Some(Bytes::from_static(b"one")), taken: 1, not_sendable: 0, stamp }
    }

    fn extension(&self) -> &'static str {
        "txt"
    }
}

#[test]
fn what_is_not_ahead_of_the_servers_clock_any_more_goes_at_once() {
    let plan = OutputPlan {
        name: "file".to_owned(),
        encode: Box::new(One),
        tells_time: false,
        takes_old_caches: false,
        split_refused_after: SECOND,
        start: Start::End,
    };
    let mut pipeline = Pipeline::new(Opened::default(), vec![plan], "boot", SECOND);
    // So that outputs read on from memory, and no log is needed.
    pipeline.disk.writes.failing = true;
    let at = Timestamp::from_millis(1_790_000_000_000);
    let mut encoder = Encoder::default();
    encoder.push(&Reading { point: PointId(0), at, value: Value::Integer(1) });
    pipeline.accept(encoder.finish(Position(0), PointTable::empty(), None).unwrap(), None, SECOND);
    let mut posts = |boot: Duration, ahead: Option<Duration>| {
        let moment = Moment { wall: at, boot };
        let now = Now { moment, believed: true, offset: None, too_far_ahead: &move |_| ahead };
        let actions = std::iter::from_fn(|| pipeline.next(&now));
        actions.filter(|action| matches!(action, Action::Post { .. })).count()
    };
    assert_eq!(posts(2 * SECOND, Some(7_200 * SECOND)), 0);
    assert_eq!(posts(3 * SECOND, Some(7_199 * SECOND)), 0);
    // Another output's server has told the time.
    assert_eq!(posts(4 * SECOND, None), 1);
}
