//! What the world is like at a moment: clocks, weather, the disk.

use super::{Check, Clocks, DiskFault, Duration, Kind, Limits, Run, SECOND, START, Timestamp, Weather, What};

/// What the world is like.
impl Run<'_> {
    pub(super) fn boot(&self) -> Duration {
        self.now - self.booted.min(self.now)
    }

    pub(super) fn active(&self) -> impl Iterator<Item = (usize, What)> + '_ {
        let now = self.now;
        let faults = self.scenario.faults.iter().enumerate();
        faults
            .filter(move |(_, fault)| fault.from <= now && now < fault.until)
            .map(|(place, fault)| (place, fault.what))
    }

    /// How wrong our clock is; `None`: it is not set.
    pub(super) fn clock_error(&self) -> Option<i64> {
        if self.now < self.unset_until {
            return None;
        }
        let mut error = Some(0);
        for (place, what) in self.active() {
            match what {
                What::Clock(ms) if !self.suppressed.contains(&place) => error = Some(ms),
                What::Unset => error = None,
                _ => {}
            }
        }
        error
    }

    pub(super) fn clocks(&self) -> Clocks {
        let boot = UPTIME + self.boot();
        let wall = match self.clock_error() {
            Some(error) => (START + ms(self.now)).saturating_add_signed(error),
            None => ms(boot),
        };
        Clocks { wall: Timestamp::from_millis(wall), boot }
    }

    pub(super) fn weather(&self, output: usize) -> Option<Weather> {
        let weathers = self.active().filter_map(|(_, what)| match what {
            What::Server(place, weather) if place == output => Some(weather),
            _ => None,
        });
        weathers.filter(|weather| !matches!(weather, Weather::OddDate(_) | Weather::Clock(_))).last()
    }

    /// What the server says that the time is.
    pub(super) fn server_time(&mut self, output: usize) -> Option<Timestamp> {
        if self.outputs[output].spec.kind != Kind::Pattoo {
            return None;
        }
        let mut error = 0;
        let mut odd = None;
        for (place, what) in self.active() {
            match what {
                What::Server(it, Weather::Clock(ms)) if it == output => error = ms,
                What::Server(it, Weather::OddDate(ms)) if it == output && !self.told_odd.contains(&place) => {
                    odd = Some((place, ms));
                }
                _ => {}
            }
        }
        if let Some((place, ms)) = odd {
            self.told_odd.insert(place);
            error = ms;
        }
        Some(Timestamp::from_millis((START + ms(self.now)).saturating_add_signed(error) / 1_000 * 1_000))
    }

    pub(super) fn disk_faults(&self) -> Vec<DiskFault> {
        self.active().filter_map(|(_, what)| if let What::Disk(fault) = what { Some(fault) } else { None }).collect()
    }

    /// Until when a job hangs that is under way from now until `until`.
    pub(super) fn hangs_until(&self, until: Duration) -> Option<Duration> {
        let hangs = self.scenario.faults.iter().filter(|fault| fault.what == What::Disk(DiskFault::Hangs));
        hangs.filter(|fault| fault.from <= until && self.now < fault.until).map(|fault| fault.until).max()
    }

    pub(super) fn set_disk(&self) {
        self.disk.set(self.now, self.disk_faults(), &self.limits);
    }

    /// When one of these was last the matter, `None`: never.
    pub(super) fn last_trouble(&self, concerns: impl Fn(What) -> bool) -> Option<Duration> {
        let faults = self.scenario.faults.iter().filter(|fault| fault.from <= self.now && concerns(fault.what));
        faults.map(|fault| fault.until.min(self.now)).max()
    }

    pub(super) fn plan_checks(&mut self) {
        for fault in &self.scenario.faults {
            match fault.what {
                What::Server(output, weather) => {
                    let refused = matches!(weather, Weather::Error(_));
                    let quiet = matches!(weather, Weather::Down { .. } | Weather::Hanging | Weather::Busy(_));
                    if quiet || weather == Weather::Error(100) {
                        let check = Check::Calm { output, from: fault.from, refused };
                        self.checks.entry(fault.until).or_default().push(check);
                    }
                    if quiet {
                        let check = Check::Back { output, since: fault.until };
                        self.checks.entry(fault.until).or_default().push(check);
                    }
                }
                What::Clock(_) | What::Unset => {
                    self.checks.entry(fault.until + 8 * SECOND).or_default().push(Check::Dated);
                }
                _ => {}
            }
        }
    }

    pub(super) fn note_limits(&mut self) {
        let Limits { min_free, max_bytes, max_age } = self.limits;
        let is_tight = !matches!(min_free, pattoo_agent_modbustcpd::spool::MinFree::Bytes(0));
        let limits = [
            (is_tight, "cache_min_free"),
            (max_bytes.is_some(), "cache_max_bytes"),
            (max_age.is_some(), "cache_max_age"),
        ];
        self.ever_limited.extend(limits.into_iter().filter(|(set, _)| *set).map(|(_, name)| name));
    }
}

/// How long the machine is up when it starts the agent.
pub(super) const UPTIME: Duration = Duration::from_secs(20);

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

pub(super) fn is_far_ahead(what: What) -> bool {
    matches!(what, What::Clock(ms) if ms > 3_600_000)
}
