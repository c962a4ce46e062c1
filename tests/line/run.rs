//! One case: polls over the line as a session does, and what must hold after each exchange.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use pattoo_agent_modbustcpd::modbus::error::ReadError;
use pattoo_agent_modbustcpd::modbus::link::{Line, Link, Remark};
use pattoo_agent_modbustcpd::modbus::plan::Block;
use pattoo_agent_modbustcpd::modbus::register::{Table, UnitId};
use tokio::io::{DuplexStream, duplex};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{sleep, sleep_until, timeout};

use super::wire::{Ask, Plan, RESPONSE, Seen, Step, Trouble, Wire, words};

/// What was seen.
#[derive(Debug, Default, Clone)]
pub struct Report {
    pub values: usize,
    pub exceptions: usize,
    pub failures: usize,
    pub reconnects: usize,
    pub behind_noise: usize,
    pub echoes: usize,
    pub greetings: usize,
    pub late: usize,
    pub foreign: usize,
}

impl Report {
    pub fn add(&mut self, other: &Self) {
        self.values += other.values;
        self.exceptions += other.exceptions;
        self.failures += other.failures;
        self.reconnects += other.reconnects;
        self.behind_noise += other.behind_noise;
        self.echoes += other.echoes;
        self.greetings += other.greetings;
        self.late += other.late;
        self.foreign += other.foreign;
    }
}

/// Runs `plan` in virtual time; says which promise is broken.
#[expect(clippy::disallowed_methods, reason = "a simulation that nothing fills")]
pub fn run(plan: &Plan) -> Result<Report, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let (connect, connections) = unbounded_channel();
        let (seen, step) = (RefCell::default(), Cell::new(0));
        let client = Client { connect, line: Line::default(), link: None, seen: &seen, report: Report::default() };
        tokio::select! {
            result = client.poll(plan, &step) => result,
            () = Wire::new(plan, connections).serve(&seen, &step) => unreachable!("it serves for ever"),
        }
    })
}

struct Client<'w> {
    connect: UnboundedSender<DuplexStream>,
    line: Line,
    link: Option<Link>,
    seen: &'w RefCell<Seen>,
    report: Report,
}

impl Client<'_> {
    async fn poll(mut self, plan: &Plan, step: &Cell<usize>) -> Result<Report, String> {
        for (number, of_plan) in plan.steps.iter().enumerate() {
            step.set(number);
            self.exchange(of_plan).await.map_err(|broken| format!("step {number}: {broken}"))?;
        }
        // Now the line is clean. What is under way comes to its end.
        step.set(usize::MAX);
        let over = self.seen.borrow().over;
        if let Some(over) = over {
            sleep_until(over + Duration::from_millis(1)).await;
        }
        for unit in [1, 17] {
            let ask = Ask { unit, function: 3, address: 7, quantity: 2 };
            let clean = Step { ask, pause: 0, abandoned: None, trouble: Trouble::default() };
            let mut read = false;
            for _ in 0..2 {
                read |= self.exchange(&clean).await.map_err(|broken| format!("clean: {broken}"))?;
            }
            if !read {
                return Err(format!("no value of unit {unit} in two polls of a clean line"));
            }
        }
        let seen = self.seen.borrow();
        self.report.late = seen.late;
        self.report.foreign = seen.foreign;
        if seen.violations.is_empty() { Ok(self.report) } else { Err(format!("{:?}", seen.violations)) }
    }

    /// One request, again over a new connection if the one that is open turns out to be closed; whether it is answered.
    async fn exchange(&mut self, step: &Step) -> Result<bool, String> {
        sleep(Duration::from_millis(step.pause)).await;
        let before = self.seen.borrow().number;
        let mut result = self.read(step).await;
        if matches!(&result, Some(Err(error)) if error.is_stale_connection()) {
            result = self.read(step).await;
        }
        let seen = self.seen.borrow();
        match result {
            Some(Ok(found)) => {
                self.report.values += 1;
                let right = words(step.ask, seen.number);
                if seen.number == before || seen.asked != Some(step.ask) || found != right {
                    return Err(format!("{:?} was answered {found:04x?}, right is {right:04x?}", step.ask));
                }
                Ok(true)
            }
            Some(Err(ReadError::Exception(found))) => {
                self.report.exceptions += 1;
                if seen.number == before || seen.exception != Some(found.code) {
                    return Err(format!("{:?} was refused with {found}, right is {:?}", step.ask, seen.exception));
                }
                Ok(false)
            }
            Some(Err(_)) | None => {
                self.report.failures += 1;
                Ok(false)
            }
        }
    }

    /// `None`: abandoned.
    async fn read(&mut self, step: &Step) -> Option<Result<Vec<u16>, ReadError>> {
        let response = Duration::from_millis(RESPONSE);
        let mut link = if let Some(link) = self.link.take() {
            link
        } else {
            let (near, far) = duplex(1 << 16);
            self.connect.send(far).unwrap();
            self.report.reconnects += 1;
            Link::over_rtu(near, response).on(self.line.clone())
        };
        let Ask { unit, function, address, quantity } = step.ask;
        let table = match function {
            1 => Table::Coils,
            3 => Table::HoldingRegisters,
            _ => Table::InputRegisters,
        };
        let block = Block { unit: UnitId(unit), table, address, quantity, whole: false, points: Vec::new() };
        let result = match step.abandoned {
            None => Some(link.read(&block).await),
            Some(after) => timeout(Duration::from_millis(after), link.read(&block)).await.ok(),
        };
        while let Some(remark) = link.take_remark() {
            match remark {
                Remark::Noise { .. } => self.report.behind_noise += 1,
                Remark::Echo => self.report.echoes += 1,
                Remark::Greeting { .. } => self.report.greetings += 1,
            }
        }
        let lives = matches!(&result, Some(result) if result.as_ref().err().is_none_or(|error| !error.link_is_dead()));
        self.link = lives.then_some(link);
        result
    }
}
