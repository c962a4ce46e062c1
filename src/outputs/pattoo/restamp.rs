//! Puts dates into a stored body whose readings were taken while the clock was not to be believed.
//!
//! Such a body is written by the same encoder, with boot times where dates belong (see [`Stamp`]): both have
//! thirteen digits, so a date takes the place of a boot time digit by digit and not a byte beside them is
//! touched, least of all a value. Only bodies that our encoder wrote are taken, known by their first bytes;
//! everything about one is found before anything is changed, and what cannot be dated stays as it was.

use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use thiserror::Error;

use super::payload::TIMESTAMP_DIGITS;
use crate::reading::Timestamp;
use crate::text::Chain;
use crate::time::timeline::Stamp;

/// What precedes the stamp of the body as a whole.
const START: &[u8] = b"{\"pattoo_agent_timestamp\":";

/// What precedes a reading's stamp. In JSON text it cannot occur inside a string, whose quotes are escaped.
const BEFORE_STAMP: &[u8] = b"[\"pattoo_timestamp\",";

/// Why a body stays undated.
#[derive(Debug, Clone, Copy, Error, PartialEq, Eq)]
pub enum NotRedated {
    /// It does not begin as our encoder begins one, or a stamp has not thirteen digits.
    #[error("the body is not as this agent writes it at byte {0}")]
    NotOurs(usize),
    /// Nobody knows when that was.
    #[error("a reading taken {} ms after boot has no date", .0.as_millis())]
    NoDate(Duration),
    /// The date found has more or fewer than thirteen digits.
    #[error("{0} ms is no date that the server can sort by")]
    Date(Timestamp),
}

/// As [`redate`], where every date is the boot time moved on by `offset`.
///
/// # Errors
/// Says what is wrong with the body.
pub fn by(body: &[u8], offset: Duration, at: Timestamp) -> Result<Vec<u8>, String> {
    let date = |boot| Some(Timestamp::from(UNIX_EPOCH + boot + offset));
    redate(body, date, at).map_err(|error| Chain(&error).to_string())
}

/// The body with every boot time replaced by the date that `date` gives it, posted at `at`.
///
/// Readings that have a date keep it.
///
/// # Errors
/// When the body is not ours, or a date is missing.
pub fn redate(body: &[u8], date: impl Fn(Duration) -> Option<Timestamp>, at: Timestamp) -> Result<Vec<u8>, NotRedated> {
    if !body.starts_with(START) {
        return Err(NotRedated::NotOurs(0));
    }
    let place = stamp_place(START.len());
    stamp_at(body, place.clone(), b',')?;
    // A copy: if any stamp cannot be dated, the file stays as it was.
    let mut dated = body.to_vec();
    write(&mut dated, place, at)?;

    let mut rest = START.len();
    while let Some(found) = find(&body[rest..], BEFORE_STAMP) {
        rest += found + BEFORE_STAMP.len();
        let place = stamp_place(rest);
        if let Stamp::Undated(boot) = Stamp::read(stamp_at(body, place.clone(), b']')?) {
            write(&mut dated, place, date(boot).ok_or(NotRedated::NoDate(boot))?)?;
        }
    }
    Ok(dated)
}

fn stamp_place(start: usize) -> Range<usize> {
    start..start + TIMESTAMP_DIGITS
}

/// The stamp of thirteen digits at `place`, which `end` must follow.
fn stamp_at(body: &[u8], place: Range<usize>, end: u8) -> Result<Timestamp, NotRedated> {
    let not_ours = NotRedated::NotOurs(place.start);
    if body.get(place.end) != Some(&end) {
        return Err(not_ours);
    }
    body[place]
        .iter()
        .try_fold(0, |number, byte| match byte {
            b'0'..=b'9' => Ok(number * 10 + u64::from(byte - b'0')),
            _ => Err(not_ours),
        })
        .map(Timestamp::from_millis)
}

fn write(body: &mut [u8], place: Range<usize>, date: Timestamp) -> Result<(), NotRedated> {
    let digits = date.to_string();
    if digits.len() != TIMESTAMP_DIGITS {
        return Err(NotRedated::Date(date));
    }
    body[place].copy_from_slice(digits.as_bytes());
    Ok(())
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::*;
    use crate::outputs::pattoo::identity::{Agent, Series};
    use crate::outputs::pattoo::payload::{Catalogue, Encoder};
    use crate::outputs::pattoo::server_rules::datapoints;
    use crate::reading::points::Kind;
    use crate::reading::{PointId, Reading, Value};

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: Timestamp = Timestamp::from_millis(1_790_000_000_000);

    fn body(at: Stamp, readings: &[(u32, Stamp, Value)]) -> Vec<u8> {
        let agent = Agent::new("4c".repeat(32).parse().unwrap(), "plant-7.example.net").unwrap();
        // A target as hostile as a name can be.
        let series = ["a", r#"["pattoo_timestamp",1000000000000]"#]
            .map(|target| Series::new(target, "input_register_30001", 0, Kind::Integer, MINUTE).unwrap());
        let mut encoder = Encoder::new(Arc::new(Catalogue::new(&agent, MINUTE, &series).unwrap()));
        for &(point, at, value) in readings {
            encoder.push(&Reading { point: PointId(point), at: at.written(), value }).unwrap();
        }
        encoder.finish(at.written()).unwrap()
    }

    fn undated(ms: u64) -> Stamp {
        Stamp::Undated(Duration::from_millis(ms))
    }

    /// The dates of a machine that booted at [`NOW`].
    fn dates(body: &[u8], at: Timestamp) -> Result<Vec<u8>, NotRedated> {
        redate(body, |boot| Some(NOW.after(boot)), at)
    }

    #[test]
    fn boot_times_become_dates_and_dates_stay() {
        let values = [Value::Float(0.1 + 0.2), Value::Integer(i64::MIN), Value::Float(-1e-7), Value::Float(5.0)];
        let readings = |stamps: [Stamp; 4]| -> Vec<_> {
            (0..4).map(|n| (n % 2, stamps[n as usize], values[n as usize])).collect()
        };
        let past = Stamp::At(Timestamp::from_millis(1_780_000_000_000));
        let at = |ms| Stamp::At(NOW.after(Duration::from_millis(ms)));
        let held = body(undated(99), &readings([undated(0), undated(0), past, undated(77)]));
        let dated = body(at(100), &readings([at(0), at(0), past, at(77)]));
        let redated = dates(&held, NOW.after(Duration::from_millis(100))).unwrap();
        assert_eq!(String::from_utf8(redated).unwrap(), String::from_utf8(dated).unwrap());
    }

    #[test]
    fn what_cannot_be_dated_or_is_not_ours_is_refused() {
        let held = body(undated(9), &[(0, undated(5), Value::Integer(1))]);
        let text = String::from_utf8(held.clone()).unwrap();
        let no_date = redate(&held, |_| None, NOW);
        assert_eq!(no_date, Err(NotRedated::NoDate(Duration::from_millis(5))));
        let early = Timestamp::from_millis(50_000);
        assert_eq!(redate(&held, |_| Some(early), NOW), Err(NotRedated::Date(early)));
        assert_eq!(dates(&held, early), Err(NotRedated::Date(early)));
        let stamp = text.find("1000000000005").unwrap();
        let cases = [
            (text.replacen('{', "{ ", 1), 0),
            (text.replacen(':', ": ", 1), 26),
            (text.replacen("1000000000009", "100000000009", 1), 26),
            (text.replace("1000000000005", "10000000000050"), stamp),
            (text.replace("1000000000005", "\"100000000005"), stamp),
            (text[..stamp + 5].to_owned(), stamp),
            (text[..30].to_owned(), 26),
            (String::new(), 0),
        ];
        for (bad, place) in cases {
            assert_eq!(dates(bad.as_bytes(), NOW), Err(NotRedated::NotOurs(place)), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn the_server_takes_what_was_redated_and_sees_the_same_values(
            readings in proptest::collection::vec((0..2u32, 0..100_000_000u64, any::<i64>(), -1e28..1e28f64), 1..40),
        ) {
            let readings: Vec<_> = readings
                .into_iter()
                .map(|(point, boot, integer, float)| {
                    let value = if integer % 2 == 0 { Value::Integer(integer) } else { Value::Float(float) };
                    (point, undated(boot), value)
                })
                .collect();
            let held = datapoints(&body(undated(1), &readings));
            let dated = datapoints(&dates(&body(undated(1), &readings), NOW).unwrap());
            prop_assert_eq!(held.len(), dated.len());
            for (held, mut dated) in held.into_iter().zip(dated) {
                let Stamp::Undated(boot) = Stamp::read(Timestamp::from_millis(held["pattoo_timestamp"].as_u64().unwrap()))
                    else { panic!("{held:?}") };
                prop_assert_eq!(dated["pattoo_timestamp"].as_u64().unwrap(), NOW.after(boot).as_millis());
                dated.insert("pattoo_timestamp".to_owned(), held["pattoo_timestamp"].clone());
                prop_assert_eq!(held, dated);
            }
        }
    }
}
