//! Rows as other programs read them, and a file that others lock, move, damage or have made.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;
use rusqlite::types::Value as Cell;
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use super::*;
use crate::outputs::{Failure, Verdict};
use crate::reading::PointId;
use crate::reading::points::{Builder, Device, Register};

const AT: u64 = 1_700_000_000_123;

const BOUNDS: Bounds = Bounds { max_age: None, max_bytes: 1 << 30 };

/// Makes a file.
type Make<'a> = &'a dyn Fn(&Path);

const LATER: Verdict = Verdict::Later { after: None, late: false };

/// A point of the device 192.0.2.20, unit 3.
fn register(number: u32) -> Register {
    Register::new(&format!("input_register_{number}"), "input_register", number, Kind::Integer)
}

fn table_of(device: &Device, registers: &[Register]) -> Arc<PointTable> {
    let mut builder = Builder::new("4c", "host", Duration::from_secs(300));
    for register in registers {
        builder.push(device, register);
    }
    Arc::new(builder.build())
}

fn table(registers: &[Register]) -> Arc<PointTable> {
    table_of(&Device::new("192.0.2.20", 3, "meters", 1_000), registers)
}

fn reading(point: u32, ms: u64, value: Value) -> Reading {
    Reading { point: PointId(point), at: Timestamp::from_millis(ms), value }
}

fn body(table: &Arc<PointTable>, readings: &[Reading]) -> Bytes {
    let encoded = SqliteEncode.encode(table, readings, 1 << 20, Timestamp::default());
    assert_eq!((encoded.taken, encoded.not_sendable), (readings.len(), 0));
    encoded.body.unwrap()
}

fn settings(path: PathBuf) -> SqliteSettings {
    SqliteSettings { path, bounds: BOUNDS }
}

/// A directory and the output whose file is in it.
struct World {
    directory: TempDir,
    deliver: SqliteDeliver,
    bounds: Bounds,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let deliver = SqliteDeliver::new(settings(directory.path().join("readings.sqlite")));
        Self { directory, deliver, bounds: BOUNDS }
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("readings.sqlite")
    }

    /// As after a start.
    fn open_anew(&mut self) {
        self.deliver = SqliteDeliver::new(SqliteSettings { path: self.path(), bounds: self.bounds });
    }

    async fn post(&mut self, table: &Arc<PointTable>, readings: &[Reading]) -> Result<(), Failure> {
        self.deliver.post(body(table, readings)).await.result
    }

    /// The rows that another program gets.
    fn rows(&self, sql: &str) -> Vec<Vec<Cell>> {
        rows(&self.path(), sql)
    }

    /// One number.
    fn number(&self, sql: &str) -> i64 {
        match self.rows(sql)[..] {
            [ref row] if row.len() == 1 => number(&row[0]),
            ref rows => panic!("{rows:?}"),
        }
    }
}

/// What another program does to the file.
fn sql(path: &Path, sql: &str) {
    Connection::open(path).unwrap().execute_batch(sql).unwrap();
}

fn rows(path: &Path, sql: &str) -> Vec<Vec<Cell>> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let columns = statement.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
    statement.query_map((), row).unwrap().map(Result::unwrap).collect()
}

fn number(cell: &Cell) -> i64 {
    let Cell::Integer(number) = cell else { panic!("{cell:?}") };
    *number
}

fn text(text: &str) -> Cell {
    Cell::Text(text.to_owned())
}

#[actix_rt::test]
async fn a_row_says_all_that_is_known_of_a_reading() {
    let mut world = World::new();
    let device = Device {
        name: Some("boiler plc".to_owned()),
        tags: vec![("hall".to_owned(), "3".to_owned()), ("ort".to_owned(), "Süd \"1\"".to_owned())],
        ..Device::new("192.0.2.20:1502", 3, "meters", 1_000)
    };
    let flow = Register {
        name: Some("flow".to_owned()),
        unit_of_measurement: Some("°C".to_owned()),
        tags: vec![("hall".to_owned(), "4".to_owned())],
        ..register(30_001)
    };
    let mode = Register {
        values: vec![(-1, "off".to_owned()), (2, "hot \"water\"".to_owned()), (i64::MIN, "least".to_owned())],
        ..register(30_002)
    };
    let table = table_of(&device, &[flow, mode]);
    let values =
        [Value::Integer(2), Value::Float(-1.0), Value::Float(1.5), Value::Integer(i64::MIN), Value::Float(1e300)];
    let mut readings = vec![reading(0, AT, Value::Float(13.5))];
    readings.extend((AT..).zip(values).map(|(ms, value)| reading(1, ms, value)));
    world.post(&table, &readings).await.unwrap();
    let found = world.rows(
        "SELECT time, device_name, name, value, unit_of_measurement, text, group_name, tags, device, unit, key, ms FROM history",
    );
    let expected = [
        text("2023-11-14T22:13:20.123Z"),
        text("boiler plc"),
        text("flow"),
        Cell::Real(13.5),
        text("°C"),
        Cell::Null,
        text("meters"),
        text(r#"{"hall":"4","ort":"Süd \"1\""}"#),
        text("192.0.2.20:1502"),
        Cell::Integer(3),
        text("input_register_30001"),
        Cell::Integer(1_700_000_000_123),
    ];
    assert_eq!(found[0], expected);
    let texts: Vec<Cell> = found[1..].iter().map(|row| row[5].clone()).collect();
    assert_eq!(texts, [text("hot \"water\""), text("off"), Cell::Null, text("least"), Cell::Null]);
    assert_eq!((&found[1][2], &found[1][4]), (&text("input_register_30002"), &Cell::Null));
    assert_eq!(fs::metadata(world.path()).unwrap().mode() & 0o777, 0o640);
    for journal in ["readings.sqlite-wal", "readings.sqlite-shm"] {
        assert_eq!(fs::metadata(world.directory.path().join(journal)).unwrap().mode() & 0o777, 0o640, "{journal}");
    }
}

/// The question that the tables are made for is answered by their primary keys.
#[actix_rt::test]
async fn the_last_day_of_a_point_is_found_by_the_primary_key() {
    let mut world = World::new();
    world.post(&table(&[register(30_001)]), &[reading(0, AT, Value::Integer(1))]).await.unwrap();
    for filter in ["name = 'flow'", "device = '192.0.2.20' AND unit = 3 AND key = 'input_register_30001'", "point = 1"]
    {
        let plan = world.rows(&format!(
            "EXPLAIN QUERY PLAN SELECT time, value FROM history WHERE {filter} AND ms >= unixepoch('now', '-1 day') * 1000 \
             ORDER BY ms"
        ));
        let steps: Vec<String> = plan.iter().map(|row| format!("{:?}", row[3])).collect();
        for step in ["SEARCH readings USING PRIMARY KEY (point=? AND ms>?)", "SEARCH recent USING PRIMARY KEY (ms>?"] {
            assert!(steps.iter().any(|found| found.contains(step)), "{filter}: {steps:?}");
        }
    }
}

#[test]
fn what_no_row_can_say_is_counted() {
    let table = table(&[register(30_001)]);
    let no_date = Timestamp::NO_DATE.as_millis();
    let odd = [
        reading(0, AT, Value::Float(f64::NAN)),
        reading(0, AT, Value::Float(f64::INFINITY)),
        reading(1, AT, Value::Integer(1)),
        reading(0, no_date, Value::Integer(1)),
        reading(0, u64::MAX, Value::Integer(1)),
    ];
    let encode = |readings: &[Reading]| SqliteEncode.encode(&table, readings, 1 << 20, Timestamp::default());
    assert_eq!(encode(&odd), Encoded { body: None, taken: 5, not_sendable: 5, stamp: None });
    let encoded = encode(&[odd.as_slice(), &[reading(0, no_date - 1, Value::Integer(1))]].concat());
    assert_eq!((encoded.taken, encoded.not_sendable, encoded.body.is_some()), (6, 5, true));
}

#[test]
fn a_post_fits_into_the_room_that_there_is() {
    let table = table(&[register(30_001)]);
    for value in [Value::Integer(0), Value::Float(-1.234_567_890_123_456_7e-300)] {
        let readings: Vec<_> = (AT..AT + 10_000).map(|ms| reading(0, ms, value)).collect();
        for room in [1, 10_000, 200_000] {
            let encoded = SqliteEncode.encode(&table, &readings, room, Timestamp::default());
            let length = encoded.body.unwrap().len();
            assert!(encoded.taken == 1 || (room / 3..=room + 200).contains(&length), "{length} bytes for {room}");
        }
    }
}

#[actix_rt::test]
async fn posts_that_come_again_add_nothing() {
    let mut world = World::new();
    let table = table(&[register(30_001), register(30_002)]);
    let all: Vec<_> = (0..100).map(|n| reading(u32::from(n % 2 == 0), AT + n / 2, Value::Integer(7))).collect();
    // As after a kill: what was acknowledged last comes again, in posts that begin and end elsewhere.
    for (from, to) in [(0, 40), (0, 40), (20, 60), (39, 41), (0, 100)] {
        world.post(&table, &all[from..to]).await.unwrap();
        world.open_anew();
    }
    assert_eq!(world.number("SELECT count(*) FROM history"), 100);
    // Nor where they have been moved meanwhile.
    let more: Vec<_> = (0..6_000).map(|n| reading(n % 2, AT + 50 + u64::from(n / 2), Value::Integer(7))).collect();
    for post in more.chunks(500) {
        for readings in [post, &all[90..], post] {
            world.post(&table, readings).await.unwrap();
            world.open_anew();
        }
    }
    assert_eq!(world.number("SELECT count(*) FROM history"), 6_100);
    assert!(world.number("SELECT count(*) FROM readings") >= 4_000, "most were moved");
    assert_eq!(world.number("SELECT count(DISTINCT ms || ' ' || point) FROM history"), 6_100);
    assert_eq!(world.number("SELECT count(*) FROM points"), 2);
}

#[actix_rt::test]
async fn labels_are_those_of_today_and_a_number_stays_in_its_unit() {
    let mut world = World::new();
    let named = |name: &str, unit: &str| Register {
        name: Some(name.to_owned()),
        unit_of_measurement: Some(unit.to_owned()),
        ..register(30_001)
    };
    let mut value = 0;
    for (name, unit, group) in [("flow", "kW", "a"), ("inflow", "kW", "b"), ("inflow", "W", "b"), ("inlet", "W", "c")] {
        let table = table_of(&Device::new("192.0.2.20", 3, group, 1_000), &[named(name, unit)]);
        value += 1;
        world.post(&table, &[reading(0, AT + value, Value::Integer(1))]).await.unwrap();
    }
    let found = world.rows("SELECT name, group_name, unit_of_measurement, ms FROM history ORDER BY ms");
    let said: Vec<_> = found.iter().map(|row| row[..3].to_vec()).collect();
    let kilowatts = ["inflow", "b", "kW"].map(text);
    let watts = ["inlet", "c", "W"].map(text);
    assert_eq!(said, [&kilowatts, &kilowatts, &watts, &watts]);
}

#[actix_rt::test]
async fn two_points_of_one_register_are_two() {
    let mut world = World::new();
    let counter = Register { kind: Kind::Counter, ..register(30_001) };
    let table = table(&[register(30_001), counter]);
    world.post(&table, &[reading(0, AT, Value::Integer(1)), reading(1, AT, Value::Integer(2))]).await.unwrap();
    assert_eq!(world.number("SELECT count(*) FROM history"), 2);
}

#[actix_rt::test]
async fn a_lock_of_another_program_is_waited_for_without_a_loss() {
    let mut world = World::new();
    let table = table(&[register(30_001)]);
    world.post(&table, &[reading(0, AT, Value::Integer(1))]).await.unwrap();
    let other = Connection::open(world.path()).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let failure = world.post(&table, &[reading(0, AT + 1, Value::Integer(2))]).await.unwrap_err();
    assert_eq!((failure.kind, failure.verdict), ("locked", LATER));
    assert!(failure.text.contains("database is locked; another program holds it"), "{}", failure.text);
    other.execute_batch("COMMIT").unwrap();
    world.post(&table, &[reading(0, AT + 1, Value::Integer(2))]).await.unwrap();
    // Whoever only reads hinders nobody.
    let mut reader = other.prepare("SELECT * FROM history").unwrap();
    let mut reading_rows = reader.query(()).unwrap();
    reading_rows.next().unwrap().unwrap();
    world.post(&table, &[reading(0, AT + 2, Value::Integer(3))]).await.unwrap();
    assert_eq!(world.number("SELECT sum(value) FROM history"), 6);
}

/// Shards have files of their own, but nobody keeps two agents from being given one path.
#[test]
fn two_agents_in_one_file_lose_and_double_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("readings.sqlite");
    let agent = |id: &'static str| {
        let path = path.clone();
        std::thread::spawn(move || {
            let mut builder = Builder::new(id, "host", Duration::from_secs(300));
            builder.push(&Device::new("192.0.2.20", 3, "meters", 1_000), &register(30_001));
            let (table, mut deliver) = (Arc::new(builder.build()), SqliteDeliver::new(settings(path)));
            let readings: Vec<_> = (0..3_000).map(|n| reading(0, AT + n, Value::Integer(1))).collect();
            actix_rt::System::new().block_on(async {
                for post in readings.chunks(50) {
                    // Until it is there, and then once more.
                    for _ in 0..2 {
                        while let Err(failure) = deliver.post(body(&table, post)).await.result {
                            assert_eq!(failure.kind, "locked", "{}", failure.text);
                        }
                    }
                }
            });
        })
    };
    for thread in ["4c", "5d"].map(agent) {
        thread.join().unwrap();
    }
    let found = rows(&path, "SELECT agent, count(*) FROM history JOIN points ON points.id = point GROUP BY agent");
    let count = || Cell::Integer(3_000);
    assert_eq!(found, [[text("4c"), count()], [text("5d"), count()]]);
    assert!(number(&rows(&path, "SELECT count(*) FROM readings")[0][0]) > 0, "some were moved by either");
}

#[actix_rt::test]
async fn what_is_no_database_of_ours_is_left_alone_until_it_is_gone() {
    let table = table(&[register(30_001)]);
    let readings = [reading(0, AT, Value::Integer(1))];
    let cases: [(&str, &str, Make<'_>); 7] = [
        ("no_database", "file is not a database", &|path| fs::write(path, "no database at all ".repeat(100)).unwrap()),
        ("other_program", "a database of another program", &|path| sql(path, "CREATE TABLE points (x)")),
        ("other_program", "a database of another program", &|path| sql(path, "PRAGMA application_id = 7")),
        ("newer", "(version 2 of its tables)", &|path| {
            sql(path, &format!("PRAGMA application_id = {}; PRAGMA user_version = 2", 0x7074_746f));
        }),
        ("tables", "no such table: points", &|path| {
            sql(path, &format!("PRAGMA application_id = {}; PRAGMA user_version = 1", 0x7074_746f));
        }),
        ("open", "Too many levels of symbolic links", &|path| symlink("elsewhere", path).unwrap()),
        ("open", "Is a directory", &|path| fs::create_dir(path).unwrap()),
    ];
    for (kind, said, make) in cases {
        let mut world = World::new();
        make(&world.path());
        let before = fs::read(world.path()).ok();
        for _ in 0..2 {
            let failure = world.post(&table, &readings).await.unwrap_err();
            assert_eq!((failure.kind, failure.verdict), (kind, Verdict::RefusedUs), "{}", failure.text);
            assert!(failure.text.contains(said), "{}", failure.text);
        }
        if kind != "tables" {
            assert_eq!(fs::read(world.path()).ok(), before, "{kind}: it is left alone");
        }
        fs::rename(world.path(), world.directory.path().join("aside")).unwrap();
        world.post(&table, &readings).await.unwrap();
        assert_eq!(world.number("SELECT count(*) FROM history"), 1, "{kind}");
    }
    let mut world = World::new();
    world.deliver = SqliteDeliver::new(settings(world.directory.path().join("no/readings.sqlite")));
    let failure = world.post(&table, &readings).await.unwrap_err();
    assert_eq!((failure.kind, failure.verdict), ("open", Verdict::RefusedUs));
    fs::create_dir(world.directory.path().join("no")).unwrap();
    world.post(&table, &readings).await.unwrap();
}

#[actix_rt::test]
async fn a_file_that_is_moved_has_all_and_a_new_one_is_made() {
    let mut world = World::new();
    let table = table(&[register(30_001)]);
    for ms in [AT, AT + 1] {
        world.post(&table, &[reading(0, ms, Value::Integer(1))]).await.unwrap();
    }
    let moved = world.directory.path().join("moved.sqlite");
    fs::rename(world.path(), &moved).unwrap();
    world.post(&table, &[reading(0, AT + 2, Value::Integer(1))]).await.unwrap();
    let count = "SELECT count(*) FROM history";
    assert_eq!(number(&rows(&moved, count)[0][0]), 2);
    assert_eq!(world.number(count), 1);
    fs::remove_file(world.path()).unwrap();
    world.post(&table, &[reading(0, AT + 3, Value::Integer(1))]).await.unwrap();
    assert_eq!(world.number(count), 1);
    assert_eq!(rows(&world.path(), "PRAGMA integrity_check"), [[text("ok")]]);
}

#[actix_rt::test]
async fn a_file_that_is_emptied_begins_anew_and_nothing_goes_where_nobody_finds_it() {
    let mut world = World::new();
    let table = table(&[register(30_001)]);
    let mut at = AT;
    // A journal that is not in the file yet, and one that is.
    for merge in ["", "PRAGMA wal_checkpoint"] {
        for _ in 0..3 {
            at += 1;
            world.post(&table, &[reading(0, at, Value::Integer(1))]).await.unwrap();
        }
        sql(&world.path(), merge);
        fs::File::create(world.path()).unwrap();
        at += 1;
        world.post(&table, &[reading(0, at, Value::Integer(1))]).await.unwrap();
        assert_eq!(world.number("SELECT count(*) FROM history"), 1);
        assert_eq!(rows(&world.path(), "PRAGMA integrity_check"), [[text("ok")]]);
    }
}

#[actix_rt::test]
async fn a_damaged_database_is_told_and_nothing_is_dropped() {
    let mut world = World::new();
    let table = table(&[register(30_001)]);
    let readings: Vec<_> = (0..2_000).map(|n| reading(0, AT + n, Value::Integer(1))).collect();
    world.post(&table, &readings[..1_999]).await.unwrap();
    world.open_anew();
    let mut bytes = fs::read(world.path()).unwrap();
    let length = bytes.len();
    bytes[4_096..length].fill(0xa5);
    fs::write(world.path(), bytes).unwrap();
    let failure = world.post(&table, &readings[1_999..]).await.unwrap_err();
    assert_eq!((failure.kind, failure.verdict), ("damaged", Verdict::RefusedUs), "{}", failure.text);
    assert!(failure.text.contains("database disk image is malformed; move it away"), "{}", failure.text);
    fs::rename(world.path(), world.directory.path().join("damaged")).unwrap();
    world.post(&table, &readings[1_999..]).await.unwrap();
    assert_eq!(world.number("SELECT count(*) FROM history"), 1);
}

/// How large the file and its journal are together.
fn size_of(world: &World) -> u64 {
    let size = |name| fs::metadata(world.directory.path().join(name)).map_or(0, |file| file.len());
    size("readings.sqlite") + size("readings.sqlite-wal")
}

/// Posts of 2,000 readings of ten points, from the time `from` on, a reading each second.
async fn fill(world: &mut World, from: u64, posts: u64, mut after: impl FnMut(&World)) {
    let table = table(&(30_001..30_011).map(register).collect::<Vec<_>>());
    for post in 0..posts {
        let polls = (0..200).map(|poll| from + (post * 200 + poll) * 1_000);
        let readings: Vec<_> =
            polls.flat_map(|ms| (0..10).map(move |point| reading(point, ms, Value::Float(0.1)))).collect();
        world.post(&table, &readings).await.unwrap();
        after(world);
    }
}

#[actix_rt::test]
async fn the_file_and_its_journal_keep_to_max_bytes_by_the_oldest_readings() {
    const LIMIT: u64 = 4_000_000;
    let mut world = World::new();
    world.bounds.max_bytes = LIMIT;
    world.open_anew();
    let mut most = 0;
    fill(&mut world, AT, 120, |world| {
        most = most.max(size_of(world));
        assert!(size_of(world) <= LIMIT, "{} bytes", size_of(world));
    })
    .await;
    assert!(most > LIMIT / 4 * 3, "{most} bytes at most: as much as there is room for");
    let left = world.number("SELECT count(*) FROM history");
    assert!((100_000..200_000).contains(&left), "{left} readings");
    // The newest of every point are there without a gap, and no point has much more of the past than another.
    let points = world.rows("SELECT min(ms), max(ms), count(*) FROM history GROUP BY point");
    for row in &points {
        let [oldest, newest, count] = [0, 1, 2].map(|cell| number(&row[cell]));
        assert_eq!(newest, i64::try_from(AT).unwrap() + (120 * 200 - 1) * 1_000);
        assert_eq!((newest - oldest) / 1_000 + 1, count);
        assert!(oldest.abs_diff(number(&points[0][0])) < 1_000_000, "{points:?}");
    }
    // A smaller bound is reached step by step.
    world.bounds.max_bytes = LIMIT / 2;
    world.open_anew();
    let from = AT + 120 * 200_000;
    fill(&mut world, from, 30, |_| {}).await;
    assert!(size_of(&world) <= LIMIT / 2, "{} bytes", size_of(&world));
    assert_eq!(world.rows("PRAGMA integrity_check"), [[text("ok")]]);
}

#[actix_rt::test]
async fn what_is_older_than_max_age_goes_whatever_the_clock_says() {
    let mut world = World::new();
    fill(&mut world, AT, 30, |_| {}).await;
    world.bounds.max_age = Some(Duration::from_secs(2_000));
    world.open_anew();
    fill(&mut world, AT + 30 * 200_000, 12, |_| {}).await;
    let newest = world.number("SELECT max(ms) FROM history");
    let oldest = world.number("SELECT min(ms) FROM history");
    // What is moved together is judged together.
    assert!((2_000_000..2_000_000 + 800_000).contains(&(newest - oldest)), "{}", newest - oldest);
    assert_eq!(world.number("SELECT count(*) FROM history"), ((newest - oldest) / 1_000 + 1) * 10);
}

#[actix_rt::test]
async fn whoever_reads_without_an_end_does_not_fill_the_disk() {
    let mut world = World::new();
    world.bounds.max_bytes = 8_000_000;
    world.open_anew();
    fill(&mut world, AT, 1, |_| {}).await;
    let other = Connection::open(world.path()).unwrap();
    other.execute_batch("BEGIN; SELECT * FROM history").unwrap();
    let table = table(&(30_001..30_011).map(register).collect::<Vec<_>>());
    let mut posts = 0;
    let failure = loop {
        posts += 1;
        assert!(posts < 10_000);
        let readings: Vec<_> =
            (0..2_000).map(|n| reading(0, AT + (posts * 2_000 + n) * 1_000, Value::Float(0.1))).collect();
        if let Err(failure) = world.post(&table, &readings).await {
            break failure;
        }
    };
    assert_eq!((failure.kind, failure.verdict), ("journal", LATER));
    assert!(failure.text.contains("its journal has grown over 500 kB; end that program's"), "{}", failure.text);
    assert!(size_of(&world) < 8_000_000);
    other.execute_batch("COMMIT").unwrap();
    world.post(&table, &[reading(0, AT + posts * 2_000_000, Value::Float(0.1))]).await.unwrap();
}

fn any_value() -> impl Strategy<Value = Value> {
    let edges = [i64::MIN, i64::MAX, 0, (1 << 53) + 1];
    prop_oneof![
        any::<i64>().prop_map(Value::Integer),
        prop::sample::select(edges.to_vec()).prop_map(Value::Integer),
        any::<f64>().prop_filter("finite", |value| value.is_finite()).prop_map(Value::Float),
        prop::sample::select(vec![0.0, -0.0, 5.0, 1e15, f64::MIN_POSITIVE, 5e-324, f64::MAX]).prop_map(Value::Float),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Any reading in, the same out, bit for bit, however it is called; and the time as people read it.
    #[test]
    fn any_reading_comes_out_as_it_went_in(
        texts in prop::array::uniform6("\\PC{0,8}|[\"'\\\\{}$.\u{0}\n;%]{0,8}"),
        readings in prop::collection::btree_map((0_u32..2, 0_u64..253_402_300_800_000), any_value(), 1..20),
        cut in 0_usize..20,
    ) {
        let [device, group, name, unit, key, value] = texts;
        let device = Device {
            name: Some(name.clone()),
            tags: vec![(key.clone(), value.clone())],
            ..Device::new(&device, 7, &group, 1_000)
        };
        let first = Register { name: Some(name), unit_of_measurement: Some(unit), values: vec![(5, value)], ..register(30_001) };
        let table = table_of(&device, &[first, register(30_002)]);
        let readings: Vec<_> = readings.into_iter().map(|((point, ms), value)| reading(point, ms, value)).collect();
        let mut world = World::new();
        actix_rt::System::new().block_on(async {
            for readings in [&readings[..cut.min(readings.len())], &readings[..]] {
                if !readings.is_empty() {
                    world.post(&table, readings).await.unwrap();
                }
            }
        });
        let found = world.rows(
            "SELECT key, ms, value, time, device, group_name, name, unit_of_measurement, tags, text FROM history ORDER BY key, ms",
        );
        prop_assert_eq!(found.len(), readings.len());
        for (row, reading) in found.iter().zip(&readings) {
            let point = table.get(reading.point).unwrap();
            prop_assert_eq!(&row[0], &text(&point.register.key));
            prop_assert_eq!(u64::try_from(number(&row[1])).unwrap(), reading.at.as_millis());
            match (&row[2], reading.value) {
                (Cell::Integer(found), Value::Integer(value)) => prop_assert_eq!(*found, value),
                (Cell::Real(found), Value::Float(value)) => prop_assert_eq!(found.to_bits(), value.to_bits()),
                other => prop_assert!(false, "{:?}", other),
            }
            let time = std::time::UNIX_EPOCH + Duration::from_millis(reading.at.as_millis());
            prop_assert_eq!(&row[3], &text(&humantime::format_rfc3339_millis(time).to_string()));
            prop_assert_eq!(&row[4], &text(&device.device));
            prop_assert_eq!(&row[5], &text(&device.group));
            prop_assert_eq!(&row[6], &text(point.name()));
            let unit = point.register.unit_of_measurement.as_deref().filter(|unit| !unit.is_empty());
            prop_assert_eq!(&row[7], &unit.map_or(Cell::Null, text));
            let tags: BTreeMap<String, String> = match &row[8] {
                Cell::Text(tags) => serde_json::from_str(tags).unwrap(),
                other => panic!("{other:?}"),
            };
            let expected: BTreeMap<String, String> =
                point.tags().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
            prop_assert_eq!(tags, expected);
            prop_assert_eq!(&row[9], &point.text_of(reading.value).map_or(Cell::Null, text));
        }
    }
}

#[actix_rt::test]
async fn a_plot_is_the_mean_of_each_step_wherever_the_readings_are_and_of_no_other_point() {
    let mut world = World::new();
    let table = table(&[register(30001), register(30002)]);
    let second = |second: u64| AT + second * 1_000;
    let of = |seconds: std::ops::Range<u64>| -> Vec<Reading> {
        let both =
            |at| [reading(0, second(at), Value::Integer(at.cast_signed())), reading(1, second(at), Value::Float(-1.0))];
        seconds.flat_map(both).collect()
    };
    world.post(&table, &of(0..10)).await.unwrap();
    // As upkeep does it.
    sql(&world.path(), "INSERT INTO readings SELECT point, ms, value FROM recent; DELETE FROM recent");
    world.post(&table, &of(20..40)).await.unwrap();
    let history = History { path: world.path() };
    let point = PointKey { agent: "4c", device: "192.0.2.20", unit: 3, key: "input_register_30001" };
    let means = |point, until, back| history.means(point, Timestamp::from_millis(until), Duration::from_secs(back), 4);
    assert_eq!(means(point, second(40), 40).unwrap(), [Some(4.5), None, Some(24.5), Some(34.5)]);
    assert_eq!(means(point, second(20), 40).unwrap(), [None, None, Some(4.5), None]);
    for other in [PointKey { agent: "4d", ..point }, PointKey { unit: 4, ..point }, PointKey { key: "'", ..point }] {
        assert_eq!(means(other, second(40), 40).unwrap(), [None; 4]);
    }
    let nowhere = History { path: world.directory.path().join("nothing") };
    assert!(nowhere.means(point, Timestamp::default(), Duration::from_secs(1), 4).is_err());
    assert!(!nowhere.path.exists(), "to look makes nothing");
}
