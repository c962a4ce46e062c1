//! One step of the plan after another: faults of the process, the server, the disk and the clock.
//!
//! A step ends what it began; what it excuses is in the ledger when it ends. A step that this machine cannot
//! perform is not counted.

use std::fs;
use std::time::{Duration, Instant};

use super::super::disk;
use super::super::fleet::Fleet;
use super::super::plan::{Fault, Outage, Step};
use super::{Chaos, TICK};
use crate::support::agent::HOSTNAME;
use crate::support::now_ms;
use crate::support::server::{Mode, Row, checksum};

impl Chaos {
    /// Performs it.
    pub(super) fn take(&mut self, step: Step) {
        let Step { fault, lasts, kill, .. } = step;
        match fault {
            Fault::Kill => {
                self.kill();
                self.pass(lasts);
                self.start();
            }
            Fault::Terminate => {
                self.terminate();
                self.pass(lasts);
                self.start();
            }
            Fault::Freeze => {
                let from = now_ms();
                self.agent.freeze();
                self.pass(lasts);
                // An answer that came meanwhile may be found too late.
                self.server.excuse_repetition();
                self.agent.thaw();
                self.ledger.frozen.push(from..now_ms());
            }
            Fault::Server(outage) => {
                self.fail(outage);
                self.pass(lasts / 2);
                if kill {
                    self.ledger.count(Fault::Kill.kind());
                    if outage == Outage::HangAfterReading {
                        self.ledger.orphaned_posts += 1;
                    }
                    self.kill();
                    self.start();
                }
                self.pass(lasts / 2);
                self.recover(outage);
            }
            Fault::TooLarge(bytes) => self.split += self.refuse(Mode::TooLarge(bytes), lasts),
            Fault::Poison => {
                let text = self.poison();
                self.bisected += self.refuse(Mode::Refusing(text), lasts);
            }
            Fault::DiskFull => {
                if !self.fill_disk(lasts) {
                    return;
                }
            }
            Fault::ReadOnly => {
                if !self.start_on_read_only_disk(lasts) {
                    return;
                }
            }
            Fault::Damage => {
                self.server.stop();
                self.pass(lasts);
                self.kill();
                let damaged = disk::damage(&self.home.spool(), &mut self.rng);
                self.server.come_back();
                self.start();
                if damaged.is_empty() {
                    return;
                }
                self.damaged.extend(damaged);
            }
            Fault::Foreign => {
                let outside = self.home.path().join("outside.json");
                let (spool, id) = (self.home.spool(), self.home.agent_id());
                self.planted.extend(disk::plant(&spool, &id, &outside, &mut self.rng));
                self.pass(lasts);
            }
            Fault::Clock(seconds) => {
                let Some(clock) = self.clock.clone() else { return };
                let from = now_ms();
                fs::write(&clock, format!("{seconds:+}")).expect("a file in the home");
                self.pass(lasts);
                fs::write(&clock, "+0").expect("a file in the home");
                // It is looked at once a second.
                self.pass(Duration::from_millis(1_500));
                self.ledger.clock.push(from..now_ms());
            }
        }
        self.ledger.count(fault.kind());
    }

    /// The server fails; what it would have been told waits.
    fn fail(&mut self, outage: Outage) {
        let mode = match outage {
            Outage::Down => return self.server.stop(),
            Outage::Status(status) => Mode::Status(status),
            Outage::HangOnAccept => Mode::HangOnAccept,
            Outage::HangAfterReading => Mode::HangAfterReading,
            Outage::Html => Mode::Html,
            Outage::NoContent => Mode::NoContent,
            Outage::Redirect => Mode::Redirect(self.elsewhere.address()),
            Outage::StoreThenClose => Mode::StoreThenClose,
            Outage::StoreThenCutAnswer => Mode::StoreThenCutAnswer,
        };
        self.server.set(mode);
    }

    fn recover(&mut self, outage: Outage) {
        if outage == Outage::Down {
            self.server.come_back();
        } else {
            self.server.set(Mode::Ok);
        }
    }

    /// The server refuses some bodies for a while; how many rows arrive in the second half of it.
    fn refuse(&mut self, mode: Mode, lasts: Duration) -> usize {
        self.server.set(mode);
        self.pass(lasts / 2);
        let before = self.arrived();
        self.pass(lasts / 2);
        self.server.set(Mode::Ok);
        self.arrived() - before
    }

    /// Chooses a series to be refused; the text by which the server knows it.
    fn poison(&mut self) -> String {
        let device = self.rng.usize(..self.fleet.devices.len());
        let all: Vec<_> = Fleet::series(device).collect();
        let series = all[self.rng.usize(..all.len())];
        self.poisoned.push((device, series));
        checksum(&Row {
            checksum: String::new(),
            unit: format!("{:03}", series.0),
            interval: String::new(),
            hostname: HOSTNAME.to_owned(),
            agent_id: self.home.agent_id(),
            target: self.fleet.devices[device].target(),
            program: "pattoo_agent_modbustcpd".to_owned(),
            key: Fleet::key(series),
            data_type: 99,
            value: serde_json::Value::Null,
            timestamp: 0,
        })
    }

    /// The disk is full for a while; `false` when there is none of our own.
    fn fill_disk(&mut self, lasts: Duration) -> bool {
        let Some(disk) = self.disk.take() else { return false };
        let (from, until) = (now_ms(), Instant::now() + lasts);
        while Instant::now() < until {
            // Also what a delivered batch has just left free.
            disk.fill();
            self.pass(TICK);
        }
        disk.release();
        self.ledger.stalls.push(from..now_ms());
        self.disk = Some(disk);
        true
    }

    /// Starts again on a disk that is read-only for a while; `false` when there is none of our own.
    fn start_on_read_only_disk(&mut self, lasts: Duration) -> bool {
        let Some(disk) = self.disk.take() else { return false };
        self.kill();
        let from = now_ms();
        let read_only = disk.set_read_only(true);
        self.start();
        self.pass(lasts);
        if !disk.set_read_only(false) {
            self.violations.push("the harness cannot make the disk writable again".to_owned());
        }
        self.ledger.stalls.push(from..now_ms());
        self.disk = Some(disk);
        read_only
    }
}
