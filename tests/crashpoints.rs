//! A sample of the crash points; all of them: `cargo run --release --example crashpoints`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking"
)]

mod support;

use std::path::Path;

use support::crashpoints::{Blow, Scene, cut_the_power, try_all};
use support::powercut;

fn sample(scene: Scene, calls: &[&'static str], blow: Blow, step: usize, limit: usize) {
    if !support::needs(&["strace"]) {
        return;
    }
    let binary = Path::new(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"));
    let mut tried = 0;
    for call in calls {
        let series = try_all(binary, scene, call, blow, step, limit);
        tried += series.tried;
        if let Some((point, why)) = series.failures.first() {
            panic!("{point}\n{why}");
        }
    }
    assert!(tried > 0, "no such call in this scene");
}

#[test]
fn killed_at_a_call_of_a_life_it_loses_nothing_that_was_on_disk() {
    sample(Scene::Life, &["fsync", "fdatasync", "renameat", "pwrite64", "write"], Blow::Kill, 3, 3);
}

#[test]
fn killed_at_a_call_of_a_drain_it_loses_nothing_that_was_on_disk() {
    sample(Scene::Drain, &["pread64", "pwrite64", "sendto"], Blow::Kill, 1, 4);
}

#[test]
fn killed_at_a_call_of_a_start_on_leftovers_it_loses_nothing() {
    sample(Scene::Leftovers, &["renameat", "unlinkat", "fsync"], Blow::Kill, 1, 3);
}

#[test]
fn killed_at_a_call_with_a_database_and_a_file_beside_the_server_all_of_them_agree() {
    sample(Scene::Archives, &["write", "pwrite64", "fdatasync"], Blow::Kill, 7, 3);
}

#[test]
fn a_disk_that_fails_once_ends_nothing_and_loses_nothing() {
    for error in ["ENOSPC", "EIO"] {
        sample(Scene::Life, &["fsync", "fdatasync", "renameat", "pwrite64"], Blow::Error(error), 2, 2);
    }
}

#[test]
fn no_batch_is_posted_before_it_would_survive_a_power_cut() {
    if !support::needs(&["strace"]) {
        return;
    }
    let posts = cut_the_power(Path::new(env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"))).unwrap();
    assert!(posts > 2, "only {posts} posts could be told apart");
}

#[test]
fn a_missing_or_late_fsync_is_seen() {
    let mut bytes = b"mbrdlog\n".to_vec();
    bytes.resize(32, 0);
    bytes.extend_from_slice(b"\xf7mbf\0\0\0\0\0\0\0\0\0\0\0\0");
    for number in [0xab, 0, 1_700_000_000_001_u64, 1, 0] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    let bytes = bytes.iter().fold(String::new(), |text, byte| text + &format!("\\x{byte:02x}"));
    let table = "7  pwrite64(9</d/00000000000000ab.points.tmp>, \"{\", 1, 0) = 1\n";
    let sync_table = "7  fsync(9</d/00000000000000ab.points.tmp>) = 0\n";
    let rename = "7  renameat(5</d>, \"00000000000000ab.points.tmp\", 5</d>, \"00000000000000ab.points\" <unfinished ...>\n\
                  8  write(4<anon_inode:[eventfd]>, \"\", 8) = 8\n7  <... renameat resumed>) = 0\n";
    let sync_directory = "7  fsync(5</d>) = 0\n";
    let write = &*format!("7  pwrite64(9</d/0000000000000000.segment>, \"{bytes}\", 88, 0) = 88\n");
    let sync = "7  fdatasync(9</d/0000000000000000.segment>) = 0\n";
    let failed = |call: &str| call.replace("= 0", "= -1 EIO (Input/output error)");
    let (directory_failed, sync_failed) = (&*failed(sync_directory), &*failed(sync));
    let post = "8  sendto(9<socket:[1]>, \"POST /pattoo/api/v1/agent/receive/a HTTP/1.1\\r\\n\\r\\n{[\\\"pattoo_timestamp\\\",\
                1700000000001],\"..., 700, MSG_NOSIGNAL, NULL, 0 <unfinished ...>\n";
    let points = [table, sync_table, rename, sync_directory].concat();
    let points = &*points;
    let cases = [
        (vec![points, write, sync_directory, sync, post], Ok(1)),
        (vec![points, write, sync, sync_directory, post], Ok(1)),
        (vec![points, write, sync_directory, post, sync], Err("segment is not fsynced")),
        (vec![points, sync, write, sync_directory, post], Err("segment is not fsynced")),
        (vec![points, write, sync_directory, sync_failed, post], Err("segment is not fsynced")),
        (vec![points, write, sync, post, sync_directory], Err("its directory")),
        (vec![points, write, sync, directory_failed, post], Err("its directory")),
        (vec![points, post], Err("nowhere on disk")),
        (vec![table, rename, sync_directory, write], Err("points, which is not fsynced")),
        (vec![table, sync_table, rename, write], Err("points, which is not fsynced")),
        (vec![points, write], Ok(0)),
    ];
    for (calls, expected) in cases {
        let found = powercut::follow(&calls.concat());
        match expected {
            Ok(posts) => assert_eq!(found, Ok(posts), "{calls:#?}"),
            Err(why) => assert!(found.as_ref().is_err_and(|found| found.contains(why)), "{found:?} {calls:#?}"),
        }
    }
}
