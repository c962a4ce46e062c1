//! What a poll costs when parts of a device are in trouble, on in-memory streams and a paused clock.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::time::Instant;

use super::core::{BUSY_PAUSE, LONGEST_BUSY_PAUSE};
use super::*;
use crate::modbus::error::ConnectError;
use crate::modbus::format::{Format, Kind, Scale, Typed};
use crate::modbus::link::Link;
use crate::modbus::plan::{Block, Limits, plan};
use crate::modbus::register::{Point, Reference, Table, UnitId};
use crate::modbus::settings::Settings;
use crate::net::error::DialError;
use crate::outage::Transition;
use crate::reading::{PointId, Timestamp, Value};
use crate::time::clock::{self, Moment};

const RESPONSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What a scripted device does with one request.
#[derive(Debug, Clone, Copy)]
enum Answer {
    /// Every register holds this word.
    Word(u16),
    Exception(u8),
    Silence,
    /// This, and then the connection is closed.
    WordAndClose(u16),
    /// This after so long.
    LateWord(u16, Duration),
}

/// A device whose answer is a function of unit, address and how often it was asked in all.
#[derive(Clone)]
struct Scripted {
    answer: Rc<dyn Fn(u8, u16, usize) -> Answer>,
    seen: Rc<RefCell<Seen>>,
    refuses: Rc<RefCell<bool>>,
}

#[derive(Debug, Default)]
struct Seen {
    connections: usize,
    /// Unit and address of each request.
    requests: Vec<(u8, u16)>,
}

impl Scripted {
    fn new(answer: impl Fn(u8, u16, usize) -> Answer + 'static) -> Self {
        Self { answer: Rc::new(answer), seen: Rc::default(), refuses: Rc::default() }
    }

    fn requests(&self) -> Vec<(u8, u16)> {
        std::mem::take(&mut self.seen.borrow_mut().requests)
    }

    async fn serve(self, mut stream: DuplexStream) {
        let mut request = [0; 12];
        while stream.read_exact(&mut request).await.is_ok() {
            let [transaction_high, transaction_low, _, _, _, _, unit, function, address_high, address_low, _, quantity] =
                request;
            let address = u16::from_be_bytes([address_high, address_low]);
            let asked = {
                let mut seen = self.seen.borrow_mut();
                seen.requests.push((unit, address));
                seen.requests.len()
            };
            let answer = (self.answer)(unit, address, asked);
            let pdu = match answer {
                Answer::Silence => continue,
                Answer::Exception(code) => vec![function | 0x80, code],
                Answer::Word(word) | Answer::WordAndClose(word) | Answer::LateWord(word, _) => {
                    let words = word.to_be_bytes().repeat(usize::from(quantity));
                    [vec![function, quantity * 2], words].concat()
                }
            };
            let length = u8::try_from(pdu.len() + 1).unwrap();
            let head = [transaction_high, transaction_low, 0, 0, 0, length, unit];
            if let Answer::LateWord(_, pause) = answer {
                tokio::time::sleep(pause).await;
            }
            // Nobody listens to what comes too late.
            if stream.write_all(&[&head[..], &pdu].concat()).await.is_err() {
                return;
            }
            if matches!(answer, Answer::WordAndClose(_)) {
                return;
            }
        }
    }
}

impl Dial for Scripted {
    async fn dial(&mut self, _: Duration) -> Result<Link, ConnectError> {
        self.seen.borrow_mut().connections += 1;
        if *self.refuses.borrow() {
            let source = std::io::ErrorKind::ConnectionRefused.into();
            return Err(DialError::Unreachable { address: ([127, 0, 0, 1], 502).into(), source }.into());
        }
        let (ours, theirs) = tokio::io::duplex(1024);
        tokio::task::spawn_local(self.clone().serve(theirs));
        Ok(Link::over(ours, RESPONSE_TIMEOUT))
    }
}

/// One block of one register for each unit and input register number.
fn blocks(registers: &[(u8, i64)]) -> Vec<Block> {
    let points: Vec<_> = (0..)
        .zip(registers)
        .map(|(id, &(unit, number))| Point {
            id: PointId(id),
            unit: UnitId(unit),
            reference: Reference::new(Table::InputRegisters, number).unwrap(),
            format: Format::Word(Scale::Raw),
            together: None,
        })
        .collect();
    plan(&points, Limits::default())
}

async fn on_paused_clock(test: impl Future<Output = ()>) {
    tokio::time::pause();
    tokio::task::LocalSet::new().run_until(test).await;
}

thread_local! {
    static START: std::cell::Cell<Option<Instant>> = const { std::cell::Cell::new(None) };
}

/// The paused clock, as both clocks of the machine.
fn paused() -> Moment {
    let start = START.get().unwrap_or_else(Instant::now);
    START.set(Some(start));
    let boot = Duration::from_secs(1_000) + start.elapsed();
    Moment { wall: Timestamp::from_millis(u64::try_from(boot.as_millis()).unwrap()), boot }
}

fn session_of(device: &Scripted) -> Session<Scripted> {
    session_with(device, Settings::default())
}

fn session_with(device: &Scripted, settings: Settings) -> Session<Scripted> {
    Session::new(device.clone(), settings).going_by(paused)
}

fn points(outcome: &Outcome) -> Vec<u32> {
    outcome.readings.iter().map(|reading| reading.point.0).collect()
}

#[tokio::test]
async fn every_block_is_read_over_one_connection() {
    on_paused_clock(async {
        let device = Scripted::new(|_, address, _| Answer::Word(address));
        let mut session = session_of(&device);
        let blocks = blocks(&[(1, 30_001), (1, 30_010), (2, 30_001)]);
        for _ in 0..3 {
            let outcome = session.poll(&blocks, clock::wall).await;
            assert_eq!(points(&outcome), [0, 1, 2]);
            assert_eq!(outcome.readings[1].value, Value::Integer(9));
            assert!(outcome.answered && outcome.events.is_empty());
        }
        assert_eq!(device.seen.borrow().connections, 1);
    })
    .await;
}

#[tokio::test]
async fn a_refused_block_costs_only_itself_and_is_told_once() {
    on_paused_clock(async {
        let device = Scripted::new(|_, address, _| if address == 9 { Answer::Exception(2) } else { Answer::Word(7) });
        let mut session = session_of(&device);
        let blocks = blocks(&[(1, 30_001), (1, 30_010), (1, 30_020)]);
        let mut events = Vec::new();
        for _ in 0..10 {
            let outcome = session.poll(&blocks, clock::wall).await;
            assert_eq!(points(&outcome), [0, 2]);
            events.extend(outcome.events);
        }
        let transitions: Vec<_> = events.iter().map(|event| event.transition).collect();
        assert!(matches!(transitions[..], [Transition::Failed { .. }, Transition::Down { .. }]), "{transitions:?}");
        assert!(matches!(events[0].subject, Subject::Block { address: 9, .. }));
        assert_eq!(device.seen.borrow().connections, 1);
    })
    .await;
}

#[tokio::test]
async fn a_silent_unit_costs_one_timeout_and_then_a_probe_per_backoff_period_behind_its_siblings() {
    on_paused_clock(async {
        let device = Scripted::new(|unit, _, _| if unit == 1 { Answer::Silence } else { Answer::Word(7) });
        let mut session = session_of(&device);
        let blocks = blocks(&[(1, 30_001), (1, 30_010), (1, 30_020), (2, 30_001), (2, 30_010)]);
        let begun = Instant::now();
        let outcome = session.poll(&blocks, clock::wall).await;
        assert_eq!(points(&outcome), [3, 4]);
        // Nothing had been answered over the connection: perhaps it was not ready yet.
        assert_eq!(device.requests(), [(1, 0), (1, 0), (2, 0), (2, 9)], "two requests to the silent unit, once");
        assert_eq!(begun.elapsed().as_secs(), RESPONSE_TIMEOUT.as_secs() * 2);

        session.poll(&blocks, clock::wall).await;
        assert_eq!(device.requests(), [(2, 0), (2, 9)], "no probe before its backoff");

        let mut probes = 0;
        for _ in 0..600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            assert_eq!(points(&session.poll(&blocks, clock::wall).await), [3, 4]);
            let requests = device.requests();
            assert_eq!(requests[..2], [(2, 0), (2, 9)], "siblings first");
            probes += requests.len() - 2;
        }
        assert!((30..75).contains(&probes), "{probes} probes in over ten minutes");
    })
    .await;
}

#[tokio::test]
async fn what_a_silent_unit_is_asked_for_alone_is_nothing_that_needs_another_register() {
    on_paused_clock(async {
        let device = Scripted::new(|_, _, asked| if asked <= 8 { Answer::Silence } else { Answer::Word(0) });
        let mut session = session_of(&device);
        let format = Format::Typed(Typed { scale_address: Some(4), ..Typed::plain(Kind::Int16) }.into());
        let point = |id, number| Point {
            id: PointId(id),
            unit: UnitId(1),
            reference: Reference::new(Table::InputRegisters, number).unwrap(),
            format: format.clone(),
            together: None,
        };
        let blocks = plan(&[point(0, 30_001), point(1, 30_002)], Limits::default());
        let mut read = 0;
        for _ in 0..300 {
            tokio::time::advance(Duration::from_secs(1)).await;
            let outcome = session.poll(&blocks, clock::wall).await;
            assert_eq!(outcome.omitted, []);
            read += outcome.readings.len();
        }
        assert!(read > 0 && device.requests().contains(&(1, 4)), "the scale register by itself");
    })
    .await;
}

#[tokio::test]
async fn a_silent_device_is_given_up_after_two_units_in_a_poll() {
    on_paused_clock(async {
        let device = Scripted::new(|_, _, _| Answer::Silence);
        let mut session = session_of(&device);
        let registers: Vec<_> = (1..=30).map(|unit| (unit, 30_001)).collect();
        let begun = Instant::now();
        let outcome = session.poll(&blocks(&registers), clock::wall).await;
        assert!(!outcome.answered);
        assert_eq!(begun.elapsed().as_secs(), RESPONSE_TIMEOUT.as_secs() * 3);

        // From then on one request in each backoff period, of one unit after the other, and one line.
        let (mut lines, mut asked) = (outcome.events.len(), device.requests());
        for _ in 0..600 {
            tokio::time::advance(Duration::from_secs(1)).await;
            lines += session.poll(&blocks(&registers), clock::wall).await.events.len();
            asked.extend(device.requests());
        }
        assert!(lines <= 2, "{lines} lines in ten minutes");
        assert!((30..120).contains(&asked.len()), "{} requests in ten minutes", asked.len());
        assert!((1..=30).all(|unit| asked.iter().any(|(asked, _)| *asked == unit)), "{asked:?}");
    })
    .await;
}

#[tokio::test]
async fn a_unit_that_comes_back_is_read_at_its_next_probe() {
    on_paused_clock(async {
        let well = Rc::new(RefCell::new(false));
        let told = Rc::clone(&well);
        let device = Scripted::new(move |_, _, _| if *told.borrow() { Answer::Word(7) } else { Answer::Silence });
        let mut session = session_of(&device);
        let blocks = blocks(&[(1, 30_001), (1, 30_010)]);
        for _ in 0..20 {
            session.poll(&blocks, clock::wall).await;
            tokio::time::advance(Duration::from_secs(10)).await;
        }
        *well.borrow_mut() = true;
        tokio::time::advance(Settings::default().max_backoff).await;
        for _ in 0..2 {
            let mut read = points(&session.poll(&blocks, clock::wall).await);
            // Which of its requests is the probe is left to chance.
            read.sort_unstable();
            assert_eq!(read, [0, 1]);
        }
    })
    .await;
}

#[tokio::test]
async fn a_gateway_that_cannot_reach_a_unit_keeps_its_connection() {
    on_paused_clock(async {
        for code in [10, 11] {
            let device =
                Scripted::new(move |unit, _, _| if unit == 1 { Answer::Exception(code) } else { Answer::Word(7) });
            let mut session = session_of(&device);
            let outcome = session.poll(&blocks(&[(1, 30_001), (1, 30_010), (2, 30_001)]), clock::wall).await;
            assert_eq!(points(&outcome), [2]);
            assert_eq!(device.requests(), [(1, 0), (2, 0)]);
            assert_eq!(device.seen.borrow().connections, 1);
            assert!(matches!(outcome.events[..], [Event { subject: Subject::Unit(UnitId(1)), .. }]));
        }
    })
    .await;
}

#[tokio::test]
async fn a_busy_device_is_asked_again_in_the_same_poll() {
    on_paused_clock(async {
        for code in [5, 6] {
            let device =
                Scripted::new(move |_, _, asked| if asked == 1 { Answer::Exception(code) } else { Answer::Word(7) });
            let mut session = session_of(&device);
            let outcome = session.poll(&blocks(&[(1, 30_001)]), clock::wall).await;
            assert_eq!(points(&outcome), [0]);
            assert!(outcome.events.is_empty());

            let device = Scripted::new(move |_, _, _| Answer::Exception(code));
            let mut session = session_of(&device);
            assert!(points(&session.poll(&blocks(&[(1, 30_001)]), clock::wall).await).is_empty());
            assert_eq!(device.requests().len(), 4);
        }
    })
    .await;
}

#[tokio::test]
async fn a_busy_device_is_asked_again_as_often_as_is_set() {
    on_paused_clock(async {
        for retries in [0, 1, 3, 10] {
            let device = Scripted::new(|_, _, _| Answer::Exception(6));
            let mut session = session_with(&device, Settings { retries, ..Settings::default() });
            let begun = Instant::now();
            session.poll(&blocks(&[(1, 30_001)]), clock::wall).await;
            assert_eq!(device.requests().len(), 1 + usize::from(retries));
            let waits = (0..u32::from(retries)).map(|n| (BUSY_PAUSE * 2_u32.pow(n)).min(LONGEST_BUSY_PAUSE));
            let extra = begun.elapsed().saturating_sub(waits.sum());
            assert!(extra <= Duration::from_millis(1) * u32::from(retries), "{retries}: {extra:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_device_that_closes_after_each_answer_loses_nothing() {
    on_paused_clock(async {
        let device = Scripted::new(|_, _, _| Answer::WordAndClose(7));
        let mut session = session_of(&device);
        let blocks = blocks(&[(1, 30_001), (1, 30_010), (1, 30_020)]);
        for _ in 0..3 {
            let outcome = session.poll(&blocks, clock::wall).await;
            assert_eq!(points(&outcome), [0, 1, 2]);
            assert!(outcome.events.is_empty());
        }
        assert_eq!(device.seen.borrow().connections, 9);
    })
    .await;
}

#[tokio::test]
async fn a_device_that_refuses_connections_gets_one_attempt_per_backoff_period() {
    on_paused_clock(async {
        let device = Scripted::new(|_, _, _| Answer::Word(7));
        *device.refuses.borrow_mut() = true;
        let mut session = session_of(&device);
        let blocks = blocks(&[(1, 30_001), (2, 30_001)]);
        for _ in 0..600 {
            let outcome = session.poll(&blocks, clock::wall).await;
            assert!(!outcome.answered);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
        let attempts = device.seen.borrow().connections;
        assert!((40..75).contains(&attempts), "{attempts} attempts in ten minutes");

        *device.refuses.borrow_mut() = false;
        tokio::time::advance(Settings::default().max_backoff).await;
        let outcome = session.poll(&blocks, clock::wall).await;
        assert_eq!(points(&outcome), [0, 1]);
        assert!(matches!(
            outcome.events[..],
            [Event { subject: Subject::Connection, transition: Transition::Recovered { .. }, .. }]
        ));
    })
    .await;
}

#[tokio::test]
async fn an_answer_around_the_deadline_is_the_one_asked_for_or_none() {
    on_paused_clock(async {
        let (mut in_time, mut late) = (0, 0);
        for run in 0..10_000_u64 {
            // A word that tells the unit and the request it answers; a millisecond more each run, 50 on either side.
            let pause = RESPONSE_TIMEOUT.saturating_sub(Duration::from_millis(50)) + Duration::from_millis(run % 101);
            let device = Scripted::new(move |unit, _, asked| {
                let word = u16::from(unit) * 1_000 + u16::try_from(asked).unwrap();
                if unit == 1 { Answer::LateWord(word, pause) } else { Answer::Word(word) }
            });
            let mut session = session_of(&device);
            // Unit 2 is asked the moment unit 1 has been given up, while its answer is on its way.
            let outcome = session.poll(&blocks(&[(1, 30_001), (2, 30_001), (2, 30_010)]), clock::wall).await;
            let connections = device.seen.borrow().connections;
            let values: Vec<_> = outcome.readings.iter().map(|reading| (reading.point.0, reading.value)).collect();
            let of_unit_2 = |first| [(1, Value::Integer(first)), (2, Value::Integer(first + 1))];
            match &values[..] {
                [(0, Value::Integer(1_001)), rest @ ..] if rest == of_unit_2(2_002) && connections == 1 => in_time += 1,
                // Unit 1 was asked once more, and its first answer, which came then, was told by its id.
                rest if rest == of_unit_2(2_003) && connections == 2 => late += 1,
                other => panic!("{pause:?}: {other:?} over {connections} connections"),
            }
        }
        // Exactly at the deadline it may be either.
        assert!(in_time >= 4_900 && late >= 4_900 && in_time + late == 10_000, "{in_time} {late}");
    })
    .await;
}

/// A device that a reload concerns begins anew like one of another run, and it may be this one.
#[test]
fn what_is_remembered_to_be_refused_is_said_to_be_of_before() {
    let blocks = blocks(&[(1, 30_001)]);
    let learned = crate::modbus::refusals::Learned { refused: blocks[0].spans().clone(), ..Default::default() };
    let endpoint = "192.0.2.20".parse().unwrap();
    let cycles = vec![Cycle { interval: RESPONSE_TIMEOUT, blocks }];
    let plan = DeviceSettings { name: String::new(), endpoint, settings: Settings::default(), cycles };
    let now = Moment { boot: RESPONSE_TIMEOUT, wall: Timestamp::default() };
    let core = core::Core::new(plan.into(), &learned, now, fastrand::Rng::with_seed(1));
    let (_, fault, spans) = core.refused().next().unwrap();
    assert_eq!(fault.cause, "refused: 30001 (before the last start or reload)");
    assert_eq!(core.refused_because(spans[0]), "refused before the last start or reload");
}
