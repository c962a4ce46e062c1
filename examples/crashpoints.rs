//! Ends the real agent at each of its system calls and looks at what its next life makes of the rest:
//! `cargo run --release --example crashpoints` tries all points, `-- --sample STEP LIMIT` some of them,
//! `-- SCENE [CALL]` all of one scene or of one call in it, `-- SCENE CALL N [ERROR]` one. Prints how many were tried; exits with 1 when anything was lost.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a program for developers"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;

use support::crashpoints::{Blow, CALLS, Point, Scene, attempt, errors, is_possible, try_all};

/// So many points at once: most of the time of a point is spent waiting.
const WORKERS: usize = 8;

fn main() -> ExitCode {
    if !is_possible() {
        println!("strace is not there, or may not trace; nothing was tried");
        return ExitCode::FAILURE;
    }
    let binary = binary();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let mut calls = CALLS.to_vec();
    let (only, step, limit) = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => (None, 1, usize::MAX),
        ["--sample", step, limit] => (None, step.parse().unwrap(), limit.parse().unwrap()),
        [scene] => (Some(named(scene)), 1, usize::MAX),
        [scene, call] => {
            calls.retain(|known| *known == call);
            (Some(named(scene)), 1, usize::MAX)
        }
        [scene, call, n, ref error @ ..] if error.len() < 2 => {
            let scene = named(scene);
            let call = CALLS.into_iter().find(|known| *known == call).unwrap();
            let error = error.first().map(|error| errors(call).iter().copied().find(|known| known == error).unwrap());
            let point = Point { scene, call, n: n.parse().unwrap(), blow: error.map_or(Blow::Kill, Blow::Error) };
            println!("{point}: {}", attempt(&binary, point).map_or_else(|why| why, |tried| format!("{tried:?}")));
            return ExitCode::SUCCESS;
        }
        _ => panic!("usage: crashpoints [--sample STEP LIMIT | SCENE [CALL [N [ERROR]]]]"),
    };
    let blows = |call| std::iter::once(Blow::Kill).chain(errors(call).iter().copied().map(Blow::Error));
    let mut work: Vec<_> = Scene::ALL
        .into_iter()
        .filter(|scene| only.is_none_or(|only| only == *scene))
        .flat_map(|scene| calls.iter().flat_map(move |&call| blows(call).map(move |blow| (scene, call, blow))))
        .collect();
    work.reverse();
    let (work, results) = (Mutex::new(work), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS {
            scope.spawn(|| {
                loop {
                    let next = work.lock().unwrap().pop();
                    let Some((scene, call, blow)) = next else { return };
                    let series = try_all(&binary, scene, call, blow, step, limit);
                    println!("{:<36} tried {:>4}  failed {:>3}", series.what, series.tried, series.failures.len());
                    for (point, why) in &series.failures {
                        println!("{point}\n{why}\n");
                    }
                    results.lock().unwrap().push(series);
                }
            });
        }
    });
    let results = results.into_inner().unwrap();
    let (tried, failed): (usize, usize) =
        results.iter().fold((0, 0), |(tried, failed), series| (tried + series.tried, failed + series.failures.len()));
    println!("points tried : {tried}\nLOST or wrong: {failed}\nVERDICT {}", if failed == 0 { "PASS" } else { "FAIL" });
    ExitCode::from(u8::from(failed > 0))
}

fn named(scene: &str) -> Scene {
    Scene::ALL
        .into_iter()
        .find(|known| format!("{known:?}") == scene)
        .expect("Life, Drain, Leftovers, SetAside or Archives")
}

/// The agent of the same profile, built if need be.
fn binary() -> PathBuf {
    let profile = if cfg!(debug_assertions) { "dev" } else { "release" };
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--profile", profile, "--bins"]).status();
    assert!(built.is_ok_and(|status| status.success()), "the agent does not build");
    let directory = std::env::current_exe().unwrap().parent().unwrap().parent().unwrap().to_owned();
    directory.join("pattoo_agent_modbustcpd")
}
