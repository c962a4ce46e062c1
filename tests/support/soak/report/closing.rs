//! The judgement: line by line, each with the bound that it must keep.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::super::disk::Damaged;
use super::super::fleet::Fleet;
use super::super::ms;
use super::super::others::{OUTPUTS, Other};
use super::spread::Spread;
use super::{Evidence, Report};
use crate::support::device::Device;
use crate::support::judge::{Arrival, Verdict, weigh};
use crate::support::server::Database;

/// So many offenders of each kind are shown.
const SHOWN: usize = 20;

/// A stamp is off by this at most, besides what the clock was off.
const STAMP_ERROR_MS: u64 = 1_000;

/// How far from its place on the grid all but one in a hundred polls of a healthy device may begin. A tenth
/// of a second is promised; the rest is for a machine that builds other things meanwhile.
const JITTER_MS: u64 = 250;

/// One in a hundred of fewer polls says nothing.
const POLLS: usize = 1_000;

/// A process must poll so soon after its start.
const READY_MS: u64 = 3_000;

/// A process must be gone so soon after SIGTERM; a loaded machine takes its time too.
const STOP_MS: u64 = 2_500;

const RSS_KIB: u64 = 64 << 10;

/// Whether a series that the server refuses for a minute must not hold up the others. Off: the agent doubles
/// its pauses while it takes a batch apart, and needs longer than that.
const POISON_MUST_NOT_BLOCK: bool = false;

/// Descriptors and threads that a process may have more at the end than at the beginning.
const SPARE: u64 = 4;

/// Readings, each with its device.
type Aside = Vec<(usize, Arrival)>;

/// The judgement under way.
pub(super) struct Closing<'a> {
    evidence: Evidence<'a>,
    report: Report,
}

/// What was lost, by what excuses it.
#[derive(Default)]
struct Losses {
    lost: Vec<String>,
    in_ram: usize,
    at_risk: usize,
    doubtful: usize,
}

impl<'a> Closing<'a> {
    /// About to judge.
    pub(super) fn new(mut evidence: Evidence<'a>) -> Self {
        let violations = std::mem::take(&mut evidence.violations);
        let report = Report { lines: Vec::new(), violations, seed: evidence.seed };
        Self { evidence, report }
    }

    /// Judges line by line, in the order of the table.
    pub(super) fn close(mut self) -> Report {
        self.say("seed", format!("{:#x}, duration {:.0?}", self.evidence.seed, self.evidence.begun.elapsed()));
        let happened: Vec<String> =
            self.evidence.ledger.happened.iter().map(|(kind, times)| format!("{kind}={times}")).collect();
        self.say("faults injected", happened.join(", "));
        let (refused, damaged) = self.quarantine();
        let set_aside = [refused, damaged.clone()].concat();
        let (verdict, losses) = self.weigh(&self.evidence.fleet.arrivals, &set_aside);
        self.readings(&verdict, &losses, set_aside.len());
        for other in self.evidence.others {
            self.other(other, &damaged);
        }
        self.posts();
        self.books();
        self.times(&verdict);
        self.process();
        let (fresh, all) = self.evidence.liveness;
        self.say("liveness", format!("{fresh}/{all} series fresh after the faults"));
        self.demand(fresh == all, || format!("{} series never came back", all - fresh));
        self.coverage();
        if !self.report.passes() {
            self.complaints();
        }
        self.report
    }

    fn say(&mut self, name: &'static str, value: String) {
        self.report.lines.push((name, value));
    }

    fn demand(&mut self, holds: bool, otherwise: impl FnOnce() -> String) {
        if !holds {
            self.report.violations.push(otherwise());
        }
    }

    fn forbid(&mut self, what: &str, offenders: &[String]) {
        self.demand(offenders.is_empty(), || {
            let shown: Vec<&str> = offenders.iter().take(SHOWN).map(String::as_str).collect();
            format!("{} {what}, the first of them:\n    {}", offenders.len(), shown.join("\n    "))
        });
    }

    /// What lies in quarantine, and what was damaged: not in the database, but not lost by the agent either.
    fn quarantine(&mut self) -> (Aside, Aside) {
        let entries = fs::read_dir(&self.evidence.quarantine).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_damaged = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "damaged");
        let (damaged_files, refused_files): (Vec<_>, Vec<_>) = entries.partition(is_damaged);
        let read = |paths: Vec<PathBuf>| paths.iter().filter_map(|path| fs::read(path).ok()).collect::<Vec<Vec<u8>>>();
        let (kept, others) = (read(damaged_files), read(refused_files));
        let damaged = self.evidence.damaged;
        // Neighbours are kept in one file.
        let holds = |file: &Vec<u8>, part: &[u8]| file.windows(part.len()).any(|bytes| bytes == part);
        let gone = damaged.iter().filter(|batch| !kept.iter().any(|file| holds(file, &batch.damaged))).count();
        let sound: Vec<String> = kept.iter().filter_map(|file| sound(file, damaged)).collect();
        self.forbid("files of what is damaged hold what is not", &sound);
        let refused = self.readings_of(others.iter());
        self.say(
            "quarantine",
            format!(
                "{} files: {} batches damaged by us, {} readings refused by the server",
                kept.len() + others.len(),
                damaged.len() - gone,
                refused.len()
            ),
        );
        self.demand(gone == 0, || format!("{gone} damaged batches are not in quarantine as they were"));
        let strange: Vec<String> = refused
            .iter()
            .filter(|(device, reading)| {
                !self.evidence.poisoned.contains(&(*device, (reading.unit, reading.table, reading.address)))
            })
            .map(|(device, reading)| format!("device {device}: {reading:?}"))
            .collect();
        self.forbid("readings in quarantine that nobody refused or damaged", &strange);
        let damaged = self.readings_of(damaged.iter().map(|batch| &batch.whole));
        (refused, damaged)
    }

    fn readings_of<'b>(&self, bodies: impl Iterator<Item = &'b Vec<u8>>) -> Vec<(usize, Arrival)> {
        let rows = bodies.flat_map(|body| {
            // One for each: a later body must not make an earlier one late.
            let mut database = Database::default();
            database.ingest(body);
            database.take_rows()
        });
        rows.filter_map(|row| self.evidence.fleet.recognise(&row)).collect()
    }

    fn weigh(&self, arrivals: &[Vec<Arrival>], set_aside: &[(usize, Arrival)]) -> (Verdict, Losses) {
        let (mut verdict, mut losses) = (Verdict::default(), Losses::default());
        let ledger = self.evidence.ledger;
        for (number, device) in self.evidence.fleet.devices.iter().enumerate() {
            let served = device.served();
            let aside: Vec<Arrival> =
                set_aside.iter().filter(|(of, _)| *of == number).map(|(_, arrival)| *arrival).collect();
            weigh(device, &served, &arrivals[number], &aside, &mut verdict);
            for (at, what) in verdict.lost.drain(..) {
                if ledger.is_at_risk(number, at) {
                    losses.in_ram += 1;
                } else if ledger.is_doubtful(at) {
                    losses.doubtful += 1;
                } else {
                    losses.lost.push(what);
                }
            }
            let risky = served.iter().filter(|answer| ledger.is_at_risk(number, answer.at_ms));
            losses.at_risk += risky.map(|answer| usize::from(answer.count)).sum::<usize>();
        }
        (verdict, losses)
    }

    fn readings(&mut self, verdict: &Verdict, losses: &Losses, aside: usize) {
        let Verdict { served, served_forbidden, arrived, .. } = verdict;
        let Losses { lost, in_ram, at_risk, doubtful } = losses;
        self.say("readings", format!("served={served} forbidden_served={served_forbidden}"));
        self.say("obligations", format!("{}", served - in_ram - doubtful));
        let set_aside = format!("{} only set aside, of {aside} there", verdict.aside);
        self.say("in database", format!("{arrived}, {set_aside}"));
        self.say("LOST", format!("{}  must be 0", lost.len()));
        self.say("lost in ram", format!("{in_ram} of {at_risk} that were not yet durable when the process ended"));
        self.say("too late, halted", format!("{doubtful} answers waited for a halted process"));
        let database = self.evidence.server.database();
        let late: Vec<String> = database.late().iter().map(|row| format!("{row:?}")).collect();
        let disorder = [&verdict.disorder[..], database.disorder(), &late].concat();
        let strange = [&verdict.misattributed[..], &self.evidence.fleet.foreign].concat();
        self.say(
            "FORBIDDEN",
            format!(
                "{}  MISATTRIBUTED: {}  DISORDER: {}  DUP in database: {}  must be 0",
                verdict.forbidden.len(),
                strange.len(),
                disorder.len(),
                verdict.duplicate.len()
            ),
        );
        self.forbid("readings LOST", lost);
        self.forbid("FORBIDDEN values", &verdict.forbidden);
        self.forbid("values MISATTRIBUTED", &strange);
        self.forbid("in DISORDER", &disorder);
        self.forbid("duplicates in the database", &verdict.duplicate);
        let violations: Vec<String> = self.evidence.fleet.devices.iter().flat_map(Device::violations).collect();
        self.forbid("requests that no agent may make", &violations);
    }

    /// What another output has, or has waiting: what the pattoo server refuses and makes of it is no concern of it.
    fn other(&mut self, other: &Other, damaged: &[(usize, Arrival)]) {
        let (verdict, losses) = self.weigh(&other.arrivals, damaged);
        let Verdict { arrived, aside, duplicate, disorder, misattributed, forbidden, .. } = &verdict;
        let strange = [&misattributed[..], &other.foreign].concat();
        let (lost, ends) = (losses.lost.len(), self.evidence.ledger.ends.len());
        self.say(
            other.name,
            format!(
                "{arrived}, {aside} only set aside  LOST: {lost}  FORBIDDEN: {}  MISATTRIBUTED: {}  DISORDER: {}  DUP: {}  must \
                 be 0  came again: {} times, bound once for each of {ends} ends",
                forbidden.len(),
                strange.len(),
                disorder.len(),
                duplicate.len(),
                other.repeats
            ),
        );
        for (what, offenders) in [
            ("readings LOST", &losses.lost),
            ("FORBIDDEN values", forbidden),
            ("values MISATTRIBUTED", &strange),
            ("in DISORDER", disorder),
            ("duplicates", duplicate),
        ] {
            self.forbid(&format!("{what}, output {}", other.name), offenders);
        }
        self.demand(other.repeats <= ends, || format!("output {}: it came again {} times", other.name, other.repeats));
    }

    fn posts(&mut self) {
        let database = self.evidence.server.database();
        let (ends, ambiguous) = (self.evidence.ledger.ends.len(), self.evidence.server.ambiguous());
        self.say(
            "came again",
            format!(
                "{} datapoints, {} of them needlessly, {} alone to ask whether anything is taken  bound: once for each of \
                 {ends} ends of the process and {ambiguous} ambiguous answers",
                database.repeated(),
                database.needless().len(),
                database.alone()
            ),
        );
        let mut needless: Vec<u64> =
            database.needless().iter().map(|at| (at - self.evidence.begun_ms) / 1_000).collect();
        needless.dedup();
        self.demand(needless.is_empty(), || format!("datapoints came again needlessly, after {needless:?} s"));
        let (alone, refuses) = (database.alone(), self.evidence.ledger.times("Poison") > 0);
        self.demand(refuses || alone == 0, || {
            format!("{alone} datapoints came again alone though nothing was refused")
        });
        let (deaths, invalid) = (database.deaths(), database.invalid());
        self.say("ingester_deaths", format!("{}  invalid_batches: {}  must be 0", deaths.len(), invalid.len()));
        self.forbid("posts that end the real ingester", deaths);
        self.forbid("posts that the real ingester ignores", invalid);
        let at_once = self.evidence.server.most_at_once();
        let orphan = usize::from(self.evidence.ledger.orphaned_posts > 0);
        self.demand(at_once <= 1 + orphan, || format!("{at_once} posts in flight at one time"));
    }

    /// The books that the agent writes into its log when it stops in order.
    fn books(&mut self) {
        let closings: Vec<&str> = self.evidence.log.lines().filter(|line| line.contains("(1071")).collect();
        let residuals: Vec<Option<Vec<i64>>> = closings.iter().map(|line| residuals(line)).collect();
        let wrong: Vec<String> = closings
            .iter()
            .zip(&residuals)
            .filter(|(_, residuals)| {
                residuals.as_ref().is_none_or(|residuals| residuals.iter().any(|residual| *residual != 0))
            })
            .map(|(line, residuals)| format!("{residuals:?}: {line}"))
            .collect();
        self.say(
            "books",
            format!(
                "of {} outputs at {} orderly stops, {} do not close, must be 0",
                OUTPUTS.len(),
                closings.len(),
                wrong.len()
            ),
        );
        self.demand(!closings.is_empty(), || "no books were found".to_owned());
        self.forbid("books that do not close", &wrong);
        let last = closings.last().and_then(|line| line.split_once("readings accepted"));
        let last = last.map_or_else(|| "not told".to_owned(), |(_, books)| format!("accepted{books}"));
        self.say("last books", last);
    }

    fn times(&mut self, verdict: &Verdict) {
        let ledger = self.evidence.ledger;
        let errors = verdict.stamp_errors.iter().filter(|(at, _)| !ledger.was_frozen(*at));
        let errors = Spread::of(errors.map(|(_, error)| *error));
        let allowed = STAMP_ERROR_MS + self.evidence.injected;
        self.say("time error", format!("{errors}  bound {allowed} ms"));
        self.demand(errors.max <= allowed, || format!("a stamp is off by {} ms", errors.max));
        let jitter = Spread::of(self.jitter().into_iter());
        self.say(
            "poll jitter",
            format!("{jitter}  (healthy devices, {} polls) bound p99 {JITTER_MS} ms", jitter.count),
        );
        let told = jitter.count >= POLLS;
        self.demand(!told || jitter.p99 <= JITTER_MS, || {
            format!("one poll in a hundred is off its time by {} ms", jitter.p99)
        });
        let first = Spread::of(self.first_requests().into_iter());
        self.say("restart→request", format!("{first}  bound {READY_MS} ms"));
        self.demand(first.max <= READY_MS, || format!("a start took {} ms", first.max));
        let stops = Spread::of(self.evidence.stop_times.iter().map(|time| ms(*time)));
        self.say("stop time", format!("{stops}  bound {STOP_MS} ms"));
        self.demand(stops.max <= STOP_MS, || format!("a stop took {} ms", stops.max));
    }

    /// When each device was asked for the first thing of a poll.
    fn polls(&self, device: usize) -> Vec<u64> {
        let first = Fleet::first_request(device);
        let requests = self.evidence.fleet.devices[device].requests();
        let polls = requests.iter().filter(|request| (request.function, request.unit, request.address) == first);
        polls
            .map(|request| self.evidence.begun_ms + ms(request.at.saturating_duration_since(self.evidence.begun)))
            .collect()
    }

    /// How far each poll of a device in peace was from where that process polls this device otherwise.
    fn jitter(&self) -> Vec<u64> {
        let ledger = self.evidence.ledger;
        let mut jitter = Vec::new();
        for device in 0..self.evidence.fleet.devices.len() {
            let calm: Vec<u64> = self.polls(device).into_iter().filter(|at| ledger.is_calm(device, *at)).collect();
            for polls in calm.chunk_by(|one, next| ledger.life(*one) == ledger.life(*next)) {
                // The middle of the phases, taken around the first one.
                let around = |at: u64| (at + 1_500 - polls[0] % 1_000) % 1_000;
                let mut phases: Vec<u64> = polls.iter().map(|at| around(*at)).collect();
                phases.sort_unstable();
                let middle = phases[phases.len() / 2];
                jitter.extend(phases.iter().map(|phase| phase.abs_diff(middle)));
            }
        }
        jitter
    }

    /// From each start to the first request to any device.
    fn first_requests(&self) -> Vec<u64> {
        let (begun, begun_ms) = (self.evidence.begun, self.evidence.begun_ms);
        let mut all: Vec<u64> = Vec::new();
        for device in &self.evidence.fleet.devices {
            let requests = device.requests();
            all.extend(requests.iter().map(|request| begun_ms + ms(request.at.saturating_duration_since(begun))));
        }
        all.sort_unstable();
        let starts = &self.evidence.ledger.starts;
        let first = |start: &u64| all.get(all.partition_point(|at| at < start)).map(|at| at - start);
        starts.iter().filter_map(first).collect()
    }

    fn process(&mut self) {
        let watch = self.evidence.watch;
        self.say("backlog max", format!("{} batches", watch.backlog));
        let rss = watch.samples.iter().map(|sample| sample.rss_kib).max().unwrap_or_default();
        let slope = watch.slope().map_or_else(|| "-".to_owned(), |slope| format!("{slope:+.2} MiB/h"));
        // Some devices are always away; in a minute each was connected once.
        let early = watch.samples.iter().filter(|sample| sample.at < Duration::from_secs(60));
        let early = early.max_by_key(|sample| (sample.fds, sample.threads)).copied();
        let (Some(early), Some(late)) = (early, self.evidence.steady) else {
            self.demand(false, || "nobody has seen the process".to_owned());
            return;
        };
        self.say(
            "resources",
            format!(
                "RSS max {} KiB slope {slope}  fds {}→{}  threads {}→{}  CPU {:.1} %",
                rss,
                early.fds,
                late.fds,
                early.threads,
                late.threads,
                watch.cpu_percent()
            ),
        );
        self.demand(rss <= RSS_KIB, || format!("{rss} KiB of memory"));
        self.demand(late.fds <= early.fds + SPARE, || format!("descriptors grew from {} to {}", early.fds, late.fds));
        self.demand(late.threads <= early.threads + SPARE, || {
            format!("threads grew from {} to {}", early.threads, late.threads)
        });
    }

    /// The last complaints in the agent's log.
    fn complaints(&mut self) {
        let bad = |line: &&str| line.contains(" - WARNING - ") || line.contains(" - ERROR - ");
        let mut lines: Vec<&str> = self.evidence.log.lines().rev().filter(bad).take(2 * SHOWN).collect();
        lines.reverse();
        self.say("its log", format!("\n    {}", lines.join("\n    ")));
    }

    /// Whether the run has met what it was to meet.
    fn coverage(&mut self) {
        let missing = std::mem::take(&mut self.evidence.missing);
        self.forbid("kinds of faults that never happened", &missing);
        let (split, bisected) = (self.evidence.split, self.evidence.bisected);
        self.say(
            "coverage",
            format!("{split} readings arrived while large bodies were refused, {bisected} while one series was"),
        );
        let ledger = self.evidence.ledger;
        let happened = |kind: &str| ledger.times(kind) > 0;
        self.demand(split > 0 || !happened("server 413"), || {
            "nothing got through while large bodies were refused".to_owned()
        });
        self.demand(bisected > 0 || !POISON_MUST_NOT_BLOCK || !happened("Poison"), || {
            "one series that is refused holds up all others".to_owned()
        });
        if self.evidence.is_part {
            return;
        }
        let again = self.evidence.server.database().repeated();
        self.demand(again > 0, || "no datapoint was repeated: the way of ambiguous answers was never gone".to_owned());
        self.demand(!self.evidence.damaged.is_empty(), || "no batch was damaged".to_owned());
        let whole = self.evidence.whole_plan;
        let backlog = self.evidence.watch.backlog;
        self.demand(!whole || backlog >= 8, || format!("no backlog of more than {backlog} batches"));
    }
}

/// How much of a file of damaged parts is none of what was damaged, if any is.
fn sound(file: &[u8], damaged: &[Damaged]) -> Option<String> {
    let mut spoilt = vec![false; file.len()];
    for part in damaged.iter().map(|batch| &batch.damaged[..]) {
        for at in (0..=file.len().saturating_sub(part.len())).filter(|&at| file[at..].starts_with(part)) {
            spoilt[at..at + part.len()].fill(true);
        }
    }
    let mut places = spoilt.iter().enumerate().filter(|(_, spoilt)| !**spoilt).map(|(at, _)| at);
    let first = places.next()?;
    Some(format!("{} of {} bytes, from {first} on: {:02x?}", places.count() + 1, file.len(), &file[first..]))
}

/// What came less what went, of each output; `None` where the books do not name all of them.
fn residuals(line: &str) -> Option<Vec<i64>> {
    // Before them it says what of it is lost, behind them what is wrong with the disk.
    let mut parts = line.split_once("readings accepted ")?.1.split("; ");
    let accepted: i64 = parts.next()?.split(',').next()?.parse().ok()?;
    let residual = |name: &&str| {
        let books = parts.next()?.strip_prefix("output ")?.strip_prefix(name)?.strip_prefix(": ")?;
        let mut numbers = books.split(',').map(|entry| entry.rsplit(' ').next()?.parse::<i64>().ok());
        let came = accepted + numbers.next()??;
        Some(came - numbers.sum::<Option<i64>>()?)
    };
    OUTPUTS.iter().map(residual).collect()
}
