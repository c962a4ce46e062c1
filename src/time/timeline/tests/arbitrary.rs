//! Arbitrary clocks, servers and restarts: what is stamped, held, dated and sealed keeps its promises.

use proptest::prelude::*;

use super::*;

/// What can happen next.
#[derive(Debug, Clone)]
enum Step {
    /// Time passes.
    Pass(u64),
    /// A device is polled.
    Poll(usize),
    /// A batch is closed.
    Seal,
    /// The wall clock is set to be so wrong.
    Set(i64),
    /// The wall clock is moved.
    Move(i64),
    /// The server's clock is set to be so wrong, and heard of.
    Server(i64),
    /// The process starts anew; within the boot it finds what was held.
    Restart,
    /// The machine starts anew.
    Reboot,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let errors = prop_oneof![
        4 => -5_000..5_000i64,
        3 => -signed(HOUR_MS) - 5_000..signed(HOUR_MS) + 5_000,
        1 => -signed(3 * DAY)..signed(3 * DAY),
        1 => -signed(START)..signed(100 * 365 * DAY),
    ]
    .boxed();
    let step = prop_oneof![
        4 => prop_oneof![0..3u64, 0..20_000u64, 0..DAY].prop_map(Step::Pass),
        8 => (0..TRACKS).prop_map(Step::Poll),
        2 => Just(Step::Seal),
        1 => errors.clone().prop_map(Step::Set),
        1 => errors.clone().prop_map(Step::Move),
        1 => errors.prop_map(Step::Server),
        1 => Just(Step::Restart),
        1 => Just(Step::Reboot),
    ];
    proptest::collection::vec(step, 1..200)
}

const TRACKS: usize = 2;

/// The agent around the line: polls, holds, dates, seals, and checks each stamp as it becomes final.
struct Agent {
    world: World,
    booted: u64,
    line: Timeline,
    tracks: [Track; TRACKS],
    /// What is held, in order.
    held: Vec<(usize, Duration)>,
    /// The last stamp of each track, and of each as the last sealed batch has it.
    last: [Timestamp; TRACKS],
    sealed: [Timestamp; TRACKS],
    /// The greatest date that the disk knows.
    mark: Timestamp,
    epoch: u64,
    /// How high the line of this epoch may have got, less the time passed.
    highest: u64,
    server: Option<World>,
    seen: Seen,
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    dated: usize,
    undated: usize,
    dated_later: usize,
    steps_back: usize,
}

impl Agent {
    fn new() -> Self {
        Self {
            world: World::new(0),
            booted: 0,
            line: line(),
            tracks: Default::default(),
            held: Vec::new(),
            last: Default::default(),
            sealed: Default::default(),
            mark: Timestamp::default(),
            epoch: 0,
            highest: 0,
            server: None,
            seen: Seen::default(),
        }
    }

    fn now(&self) -> Moment {
        let Moment { wall, boot } = self.world.now();
        Moment { wall, boot: boot.saturating_sub(Duration::from_millis(self.booted)) }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Pass(ms) => self.pass(ms),
            Step::Poll(track) => self.poll(track),
            Step::Seal => {
                self.release();
                self.seal();
            }
            Step::Set(error) => self.world.error = error,
            Step::Move(by) => self.world.error = (self.world.error + by).max(-signed(START)),
            Step::Server(error) => {
                let server = World { error, ..self.world };
                let date = at(server.now().wall.as_millis() / 1_000 * 1_000);
                if date >= BUILT {
                    self.server = Some(server);
                }
                self.line.server_says(date, self.now());
            }
            Step::Restart => {
                self.line = Timeline::new(BUILT, self.mark);
                if let Some(oldest) = self.held.iter().map(|&(_, boot)| boot).min() {
                    self.line = Timeline::new(BUILT, self.mark).holding_since(oldest);
                }
                self.start();
            }
            Step::Reboot => {
                self.held.clear();
                self.booted = self.world.passed;
                self.line = Timeline::new(BUILT, self.mark);
                self.start();
            }
        }
    }

    fn pass(&mut self, ms: u64) {
        self.world.passed += ms;
        if let Some(server) = &mut self.server {
            server.passed += ms;
        }
    }

    fn start(&mut self) {
        self.tracks = Default::default();
        self.last = self.sealed;
        self.epoch = 0;
        self.server = None;
        // Until a process stamps, its predecessor is long gone.
        self.pass(1_000);
    }

    fn poll(&mut self, track: usize) {
        let now = self.now();
        match self.line.stamp(now, &mut self.tracks[track]) {
            Stamp::At(date) => {
                self.release();
                self.seen.dated += 1;
                self.check(track, date);
            }
            Stamp::Undated(boot) => {
                self.seen.undated += 1;
                self.held.push((track, boot));
            }
        }
    }

    /// Once the clock is believed, what is held is dated and sealed before all else.
    fn release(&mut self) {
        let state = self.line.observe(self.now());
        self.notice();
        if matches!(state, ClockState::NotPlausible { .. }) || self.held.is_empty() {
            return;
        }
        for (track, boot) in std::mem::take(&mut self.held) {
            let date = self.line.date(boot).expect("a date");
            self.seen.dated_later += 1;
            self.check(track, date);
        }
        self.seal();
    }

    /// A step back of more than an hour is reported, and only that; order is asked for anew.
    fn notice(&mut self) {
        if self.line.steps_back() == self.epoch {
            return;
        }
        let wall = self.now().wall;
        let limit = self.server.map_or(wall, |server| wall.min(server.now().wall)).after(HOUR);
        let line = at(self.highest + self.world.passed + 2_000);
        assert!(line > limit, "a line at {line} is given up for {limit}");
        self.highest = 0;
        self.epoch = self.line.steps_back();
        self.seen.steps_back += 1;
        self.last = Default::default();
        self.sealed = Default::default();
        self.mark = Timestamp::default();
    }

    /// What was stamped so far is on disk, and a reading of somebody else's.
    fn seal(&mut self) {
        self.sealed = self.last;
        self.mark = self.last.into_iter().fold(self.mark, Timestamp::max);
        if matches!(self.line.observe(self.now()), ClockState::NotPlausible { .. }) {
            return;
        }
        let mut track = self.line.track();
        if let Stamp::At(at) = self.line.stamp(self.now(), &mut track) {
            self.mark = self.mark.max(at);
            self.highest = self.highest.max(at.as_millis().saturating_sub(self.world.passed));
        }
    }

    fn check(&mut self, track: usize, date: Timestamp) {
        assert!(date > self.last[track], "{date} is stamped after {}", self.last[track]);
        self.last[track] = date;
        self.highest = self.highest.max(date.as_millis().saturating_sub(self.world.passed));
        assert!(date >= BUILT, "{date} is before the build");
        if let Some(server) = self.server {
            assert!(date <= at(server.now().wall.as_millis() + HOUR_MS), "{date} is ahead of the server");
            assert_eq!(self.line.too_far_ahead(date, self.now()), None);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn f13_stamps_go_up_and_are_never_before_the_build_or_an_hour_ahead_of_the_server(steps in steps()) {
        let mut agent = Agent::new();
        for step in &steps {
            agent.step(step);
        }
    }
}

#[test]
fn thirty_days_of_steps_within_the_hour_lose_no_reading() {
    let mut random = fastrand::Rng::with_seed(13);
    let mut agent = Agent::new();
    agent.step(&Step::Server(0));
    for second in 0..30 * 86_400 / 10 {
        agent.step(&Step::Pass(10_000));
        agent.step(&Step::Poll(second % TRACKS));
        if second % 6 == 0 {
            agent.step(&Step::Seal);
        }
        match random.u32(0..2_000) {
            0 => agent.step(&Step::Set(random.i64(-1_000_000..1_000_000))),
            1 => agent.step(&Step::Set(signed(DAY))),
            2 => agent.step(&Step::Set(-signed(START) + 1)),
            3..10 => agent.step(&Step::Set(0)),
            10 => {
                agent.step(&Step::Restart);
                agent.step(&Step::Server(0));
            }
            11 => agent.step(&Step::Server(random.i64(-1_000..1_000))),
            _ => {}
        }
    }
    agent.step(&Step::Set(0));
    agent.step(&Step::Server(0));
    agent.step(&Step::Seal);
    let Seen { dated, undated, dated_later, steps_back } = agent.seen;
    assert_eq!((dated + undated, undated - dated_later, steps_back), (259_200, 0, 0));
    assert!(undated > 1_000 && dated > 100_000, "{:?}", agent.seen);
}
