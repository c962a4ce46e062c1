//! The spool against the disk and against a list.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::time::Duration;

use proptest::prelude::*;

use super::*;

const ID: &str = "4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c4c";
const START: u64 = 1_790_000_000_000;

fn at(n: u64) -> Timestamp {
    Timestamp::from_millis(START + n)
}

/// Takes any body of the form `<digits>...` for one with as many datapoints as its length.
fn check(body: &[u8], _: Timestamp, _: &str) -> Result<Checked, String> {
    let sound = body.first().is_some_and(u8::is_ascii_digit);
    if sound { Ok(Checked { datapoints: body.len(), plain: true }) } else { Err("it is no body".to_owned()) }
}

fn bytes(body: &[u8]) -> Bytes {
    Bytes::copy_from_slice(body)
}

struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> Spool {
        self.open_with(Limits { min_free: MinFree::Bytes(0), ..Limits::default() }, 4)
    }

    fn open_with(&self, limits: Limits, window: usize) -> Spool {
        Spool::open_with(self.0.path(), ID, check, limits, window).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(ID).join(name)
    }

    fn quarantined(&self) -> usize {
        fs::read_dir(self.path(QUARANTINE)).map_or(0, Iterator::count)
    }
}

/// Everything in the spool, in the order in which it leaves.
fn drain(spool: &mut Spool) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while spool.tally().batches > 0 {
        let taken = spool.take(1 << 20, 3).unwrap();
        let names: Vec<_> = taken.iter().map(|stored| stored.name).collect();
        bodies.extend(taken.into_iter().map(|stored| stored.body.to_vec()));
        spool.acknowledge(&names, Timestamp::default(), 0).unwrap();
    }
    bodies
}

#[test]
fn a_post_that_was_never_on_disk_is_remembered_though_the_process_is_killed() {
    let (disk, after) = (Disk::new(), Disk::new());
    let mut spool = disk.open();
    spool.append(at(5), &bytes(b"5"), 1).unwrap();
    spool.remember(at(9));
    drop(after.open());
    fs::copy(disk.path("state"), after.path("state")).unwrap();
    let later = after.open();
    assert_eq!((later.newest(), later.posted()), (at(9), at(9)));
    assert_eq!((spool.newest(), spool.posted()), (at(9), at(9)));
}

#[test]
fn the_stamps_of_batches_that_may_have_been_posted_are_remembered_though_the_process_is_killed() {
    let (disk, after) = (Disk::new(), Disk::new());
    let mut spool = disk.open();
    for n in [5, 6, 7] {
        spool.append(at(n), &bytes(n.to_string().as_bytes()), 1).unwrap();
    }
    assert_eq!(spool.take(2, 2).unwrap().len(), 2);
    drop(after.open());
    fs::copy(disk.path("state"), after.path("state")).unwrap();
    assert_eq!(after.open().posted(), at(6));
}

#[test]
fn batches_of_both_agents_leave_in_the_order_of_their_stamps_across_lives() {
    let disk = Disk::new();
    let mut spool = disk.open();
    for n in [5, 6, 7, 8, 9, 10] {
        spool.append(at(n), &bytes(n.to_string().as_bytes()), 1).unwrap();
    }
    for n in [1, 8, 20] {
        fs::write(disk.path(&format!("{}_{ID}.json", START + n)), format!("{n} python")).unwrap();
    }
    drop(spool);
    let mut spool = disk.open();
    assert_eq!((spool.tally().batches, spool.newest()), (9, at(20)));
    let left = ["1 python", "5", "6", "7", "8 python", "8", "9", "10", "20 python"];
    assert_eq!(drain(&mut spool), left.map(|body| body.as_bytes().to_vec()));
    assert_eq!(spool.tally().residual(), 0);
    drop(spool);
    assert_eq!(disk.open().newest(), at(20), "an emptied queue remembers its stamps");
}

#[test]
fn whatever_byte_of_a_batch_is_changed_or_cut_it_is_set_aside_untouched_and_the_rest_is_delivered() {
    let body = b"1 some readings";
    for damage in 0..3 * body.len() {
        let disk = Disk::new();
        let mut spool = disk.open();
        spool.append(at(1), &bytes(b"0"), 1).unwrap();
        let name = spool.append(at(2), &bytes(body), 15).unwrap();
        spool.append(at(3), &bytes(b"2"), 1).unwrap();
        drop(spool);
        let path = disk.path(&name.file_name(ID));
        let mut bad = body.to_vec();
        match damage / body.len() {
            0 => bad[damage] ^= 1,
            1 => bad.truncate(damage - body.len()),
            _ => bad[damage % body.len()..].fill(0),
        }
        fs::write(&path, &bad).unwrap();
        let mut spool = disk.open();
        assert_eq!(drain(&mut spool), [b"0", b"2"], "damage {damage}");
        let findings = spool.take_findings().told;
        assert_eq!(findings.len(), 1);
        assert_eq!(fs::read(&findings[0].path).unwrap(), bad);
        assert_eq!(spool.tally().residual(), 0);
    }
}

#[test]
fn foreign_names_links_and_special_files_are_never_touched() {
    let disk = Disk::new();
    drop(disk.open());
    let victim = disk.0.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    let plain = format!("{START}_{ID}.json");
    for name in ["notes.txt", ".hidden", "x.json", &format!("{START}_{}.json", "5d".repeat(32)), &"n".repeat(255)] {
        fs::write(disk.path(name), "foreign").unwrap();
    }
    symlink(&victim, disk.path(&plain)).unwrap();
    fs::create_dir(disk.path(&format!("{}_{ID}.json", START + 1))).unwrap();
    let fifo = format!("{}_{ID}.json", START + 2);
    let directory = rustix::fs::open(disk.path("."), rustix::fs::OFlags::RDONLY, rustix::fs::Mode::empty()).unwrap();
    let kind = rustix::fs::FileType::Fifo;
    rustix::fs::mknodat(&directory, &*fifo, kind, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
    let mut spool = disk.open();
    spool.append(at(9), &bytes(b"9"), 1).unwrap();
    assert_eq!(drain(&mut spool), [b"9"]);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert_eq!(fs::read_to_string(disk.path("notes.txt")).unwrap(), "foreign");
    assert_eq!((disk.quarantined(), disk.path(&plain).is_symlink(), disk.path(&fifo).exists()), (0, true, true));
}

#[test]
fn files_and_directories_are_for_owner_and_group_alone() {
    let disk = Disk::new();
    let mut spool = disk.open();
    let name = spool.append(at(1), &bytes(b"1"), 1).unwrap();
    let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode(disk.path(".")), mode(disk.path(&name.file_name(ID)))), (0o750, 0o640));
}

#[test]
fn a_second_process_is_refused_and_changes_nothing() {
    let disk = Disk::new();
    let _first = disk.open();
    let second = Spool::open(disk.0.path(), ID, check, Limits::default());
    assert!(matches!(second, Err(SpoolError::InUse { .. })));
}

#[test]
fn the_oldest_give_way_to_a_limit_in_bytes_or_age_and_are_counted_but_never_what_is_being_posted() {
    let none = Limits { min_free: MinFree::Bytes(0), ..Limits::default() };
    let by_size = Limits { max_bytes: Some(10), ..none };
    let by_age = Limits { max_age: Some(Duration::from_millis(10)), ..none };
    let by_space = Limits { min_free: MinFree::Bytes(u64::MAX), ..none };
    for (limits, kept) in [(by_size, 10), (by_age, 11), (by_space, 1)] {
        let disk = Disk::new();
        let mut spool = disk.open_with(limits, 1_000);
        for n in 0..50 {
            spool.append(at(n), &bytes(b"1"), 1).unwrap();
        }
        let tally = spool.tally();
        assert_eq!((tally.batches, tally.evicted(), tally.residual()), (kept, 50 - kept as u64, 0), "{limits:?}");
        let taken = spool.take(1, 1).unwrap().remove(0).name;
        for n in 50..99 {
            spool.append(at(n), &bytes(b"1"), 1).unwrap();
        }
        assert!(disk.path(&taken.file_name(ID)).exists(), "{limits:?}");
    }
}

#[test]
fn a_directory_that_was_removed_is_made_anew() {
    let disk = Disk::new();
    let mut spool = disk.open();
    spool.append(at(1), &bytes(b"1"), 1).unwrap();
    fs::remove_dir_all(disk.0.path().join(ID)).unwrap();
    spool.append(at(2), &bytes(b"22"), 2).unwrap();
    assert_eq!(drain(&mut spool), [b"22"]);
    assert_eq!((spool.tally().vanished, spool.tally().residual()), (1, 0));
}

#[test]
fn what_is_held_gets_its_dates_once_though_a_crash_comes_in_between() {
    let boot = |seconds| crate::time::timeline::Stamp::Undated(Duration::from_secs(seconds)).written();
    let offset = Duration::from_millis(START);
    let redate =
        |body: &[u8], _: Duration, at: Timestamp| Ok(format!("{at} {}", String::from_utf8_lossy(body)).into_bytes());
    let dated = |seconds: u64| format!("{} {seconds}", START + seconds * 1_000).into_bytes();
    let disk = Disk::new();
    let mut spool = disk.open();
    spool.open_held("boot-1").unwrap();
    for seconds in [1, 2, 3] {
        spool.hold(boot(seconds), seconds.to_string().as_bytes(), 1).unwrap();
    }
    assert!(spool.take(1 << 20, 9).unwrap().is_empty(), "what has no date is not given out");
    assert_eq!((spool.tally().held, spool.tally().residual()), (3, 0));
    // The second is dated, then the process dies.
    let fails = std::cell::Cell::new(0);
    let second_fails = |body: &[u8], offset: Duration, at: Timestamp| {
        fails.set(fails.get() + 1);
        if fails.get() == 2 { std::panic::panic_any("crash") } else { redate(body, offset, at) }
    };
    let crash = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| spool.date_held(offset, &second_fails)));
    assert!(crash.is_err());
    drop(spool);

    let mut spool = disk.open();
    let undated = spool.open_held("boot-1").unwrap();
    assert_eq!(undated, Undated { since: Some(Duration::from_secs(2)), offset: Some(offset), other_boots: 0 });
    spool.date_held(undated.offset.unwrap(), &redate).unwrap();
    spool.append(at(10_000), &bytes(b"9"), 1).unwrap();
    assert_eq!(drain(&mut spool), [dated(1), dated(2), dated(3), b"9".to_vec()]);
    assert_eq!(spool.tally().held, 0);
    spool.hold(boot(50), b"5", 1).unwrap();
    drop(spool);

    let mut spool = disk.open();
    assert_eq!(spool.open_held("boot-2").unwrap(), Undated { since: None, offset: None, other_boots: 1 });
    spool.date_held(offset, &redate).unwrap();
    assert!(drain(&mut spool).is_empty(), "another boot's are never dated");
}

/// What may happen to a spool.
#[derive(Debug, Clone)]
enum Event {
    Append(u16),
    /// So many batches are taken, and so many of them acknowledged: all, or none.
    Take(usize, bool),
    /// A crash, and a new life.
    Crash,
    /// A batch is damaged while the agent is down: the one at this place.
    Damage(usize),
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (1..60u16).prop_map(Event::Append),
        3 => (1..6usize, any::<bool>()).prop_map(|(count, acknowledge)| Event::Take(count, acknowledge)),
        1 => Just(Event::Crash),
        1 => (0..8usize).prop_map(Event::Damage),
    ];
    prop::collection::vec(event, 1..60)
}

/// A spool that an earlier life left with batches of these many datapoints each.
fn left(disk: &Disk, datapoints: &[usize]) {
    let mut spool = disk.open();
    for (n, &count) in (1..).zip(datapoints) {
        spool.append(at(n), &bytes("7".repeat(count).as_bytes()), count).unwrap();
    }
}

#[test]
fn what_an_earlier_life_left_is_found_at_once_and_nothing_else() {
    let disk = Disk::new();
    let mut spool = disk.open();
    for n in 1..=20 {
        spool.append(at(n), &bytes(b"777"), 3).unwrap();
    }
    for batch in spool.take(1 << 20, 4).unwrap() {
        spool.acknowledge(&[batch.name], Timestamp::default(), 1).unwrap();
    }
    drop(spool);
    let tally = disk.open().tally();
    assert_eq!((tally.found, tally.on_disk, tally.batches, tally.residual()), (48, 48, 16, 0));
    assert_eq!((tally.delivered, tally.quarantined, tally.stored), (0, 0, 0), "of this life");
    // And again, unread.
    let mut spool = disk.open();
    assert_eq!(spool.tally().found, 48);
    drain(&mut spool);
    let tally = spool.tally();
    assert_eq!((tally.found, tally.delivered, tally.on_disk, tally.residual()), (48, 48, 0, 0));
    drop(spool);
    assert_eq!(disk.open().tally().found, 0);
}

#[test]
fn what_a_killed_life_left_is_found_too() {
    let disk = Disk::new();
    let mut spool = disk.open();
    for n in 1..=7 {
        spool.append(at(n), &bytes(b"7777"), 4).unwrap();
    }
    // A kill: nothing of it is dropped.
    let state = fs::read(disk.path("state")).unwrap();
    drop(spool);
    fs::write(disk.path("state"), state).unwrap();
    assert_eq!(disk.open().tally().found, 28);
}

#[test]
fn a_count_that_is_wrong_or_missing_is_put_right_by_reading() {
    for remembered in [None, Some(1), Some(1_000)] {
        let disk = Disk::new();
        left(&disk, &[3, 4, 5]);
        let directory = Directory::open(disk.0.path().join(ID)).unwrap();
        match remembered {
            Some(datapoints) => State::open(&directory).0.save_on_disk(datapoints),
            None => fs::remove_file(disk.path("state")).unwrap(),
        }
        let mut spool = disk.open();
        assert_eq!((spool.tally().found, spool.tally().residual()), (remembered.unwrap_or(0), 0));
        spool.append(at(9), &bytes(b"77"), 2).unwrap();
        drain(&mut spool);
        let tally = spool.tally();
        assert_eq!((tally.found, tally.delivered, tally.on_disk, tally.residual()), (12, 14, 0, 0), "{remembered:?}");
    }
}

#[test]
fn what_somebody_else_removed_meanwhile_is_not_found() {
    let disk = Disk::new();
    left(&disk, &[3, 4]);
    for file in fs::read_dir(disk.0.path().join(ID)).unwrap() {
        let path = file.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "json") {
            fs::remove_file(path).unwrap();
        }
    }
    let tally = disk.open().tally();
    assert_eq!((tally.found, tally.on_disk, tally.batches), (0, 0, 0));
}

#[test]
fn losses_of_an_earlier_life_are_no_losses_of_this_one() {
    let disk = Disk::new();
    let limits = Limits { min_free: MinFree::Bytes(0), max_bytes: Some(10), max_age: None };
    let mut spool = disk.open_with(limits, 4);
    for n in 1..=5 {
        spool.append(at(n), &bytes(b"7777"), 4).unwrap();
    }
    assert_eq!(spool.tally().lost(), 12);
    drop(spool);
    let mut spool = disk.open_with(limits, 4);
    assert_eq!((spool.tally().lost(), spool.tally().found), (0, 8));
    spool.append(at(9), &bytes(b"7777"), 4).unwrap();
    assert_eq!((spool.tally().lost(), spool.tally().residual()), (4, 0));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn it_behaves_as_a_list_whatever_happens(events in events()) {
        let disk = Disk::new();
        let mut spool = disk.open();
        let mut model: BTreeMap<Name, Vec<u8>> = BTreeMap::new();
        let (mut clock, mut damaged, mut set_aside) = (0, std::collections::BTreeSet::new(), 0);
        for event in events {
            match event {
                Event::Append(size) => {
                    clock += 1;
                    let body = format!("{clock}{}", "x".repeat(size.into())).into_bytes();
                    let name = spool.append(at(clock), &bytes(&body), body.len()).unwrap();
                    model.insert(name, body);
                }
                Event::Take(count, acknowledge) => {
                    let taken = spool.take(1 << 20, count).unwrap();
                    for stored in &taken {
                        prop_assert_eq!(Some(&stored.body[..]), model.get(&stored.name).map(Vec::as_slice));
                    }
                    // Those that were passed over on the way are damaged, every one.
                    if let Some(last) = taken.last() {
                        let names: Vec<_> = taken.iter().map(|stored| stored.name).collect();
                        for (name, _) in model.clone().range(..=last.name) {
                            if !names.contains(name) {
                                prop_assert!(damaged.contains(name));
                                model.remove(name);
                                set_aside += 1;
                            }
                        }
                        if acknowledge {
                            spool.acknowledge(&names, last.name.at(), 0).unwrap();
                            for name in &names {
                                model.remove(name);
                            }
                        }
                    }
                }
                Event::Crash => {
                    drop(spool);
                    spool = disk.open();
                }
                Event::Damage(place) => {
                    drop(spool);
                    if let Some((name, body)) = model.iter().nth(place) {
                        let mut bad = body.clone();
                        bad[0] ^= 0x40;
                        fs::write(disk.path(&name.file_name(ID)), bad).unwrap();
                        damaged.insert(*name);
                    }
                    spool = disk.open();
                }
            }
            prop_assert_eq!(spool.tally().residual(), 0);
        }
        let left: Vec<_> = model.iter().filter(|(name, _)| !damaged.contains(name)).map(|(_, body)| body.clone()).collect();
        set_aside += model.len() - left.len();
        prop_assert_eq!(drain(&mut spool), left);
        prop_assert!(disk.quarantined() <= set_aside + damaged.len() && disk.quarantined() >= set_aside);
        prop_assert_eq!(spool.tally().residual(), 0);
    }
}
