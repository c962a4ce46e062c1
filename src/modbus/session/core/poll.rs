//! A poll under way: what is still to be asked, what is asked now and why, and what came so far. Plain data.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::modbus::decode::PollDecoder;
use crate::modbus::error::ReadError;
use crate::modbus::plan::Block;
use crate::modbus::refusals::search::Search;
use crate::modbus::register::{Table, UnitId, Units};
use crate::modbus::session::event::{Outcome, Subject, Unread};
use crate::modbus::session::plan::DeviceSettings;
use crate::time::clock::Moment;

/// A poll under way.
#[derive(Debug, Default)]
pub(super) struct Poll {
    pub(super) begun: Duration,
    pub(super) outcome: Outcome,
    pub(super) decoder: PollDecoder,
    /// The requests of this poll, and of those the ones that were not asked yet.
    pub(super) due: Vec<usize>,
    pub(super) queue: VecDeque<usize>,
    /// What follows once a device that was silent as a whole has answered.
    pub(super) held_back: Vec<usize>,
    pub(super) parts: Option<Parts>,
    pub(super) asking: Option<Asking>,
    /// Requests that are to be searched for what is refused of them.
    pub(super) refused: VecDeque<(usize, Block, ReadError)>,
    pub(super) search: Option<(usize, Block, ReadError, Search)>,
    /// Requests made by searches.
    pub(super) extra: usize,
    pub(super) probes: Option<VecDeque<(usize, Block)>>,
    /// Scale registers that were read again, and how often.
    pub(super) rechecked: BTreeMap<(UnitId, Table, u16), u8>,
    /// The unit of the request of the plan that was begun last.
    pub(super) unit: Option<UnitId>,
    /// A request whose unit answers a single value, which has so many entries: asked once more.
    pub(super) confirm: Option<(usize, u16)>,
    /// Units and tables of which everything refused is tried in this poll, because one value was read again.
    pub(super) regained: BTreeSet<(UnitId, Table)>,
    /// Units that have been found silent, and whether that is told of the unit or of one request, and why.
    pub(super) silent: Units,
    pub(super) silences: Vec<(Subject, ReadError, Duration)>,
    /// Units of which something was read.
    pub(super) answering: Units,
    /// Whether a connection was asked once more although it had not answered.
    pub(super) asked_again: bool,
    /// Why nothing more is asked.
    pub(super) over: Option<Unread>,
}

/// The requests that are made instead of one of the plan.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) request: usize,
    pub(super) blocks: Arc<[Block]>,
    pub(super) next: usize,
}

/// A request that is to be made, or is made now.
#[derive(Debug)]
pub(super) struct Asking {
    pub(super) purpose: Purpose,
    /// The request of the plan that it is for; none for one that is for the whole poll.
    pub(super) request: Option<usize>,
    pub(super) block: Asked,
    pub(super) begun: Option<Duration>,
    /// How often it was asked again because the device was busy, and whether a rest is due before it is.
    pub(super) busy: u16,
    pub(super) rest: Option<Duration>,
    /// Whether it was sent again over a new connection.
    pub(super) resent: bool,
}

/// Where the request is that is made.
#[derive(Debug)]
pub(super) enum Asked {
    /// In the plan: cycle and place.
    // A place and no copy: nearly every request is of this kind, and a block has a list of its own.
    Planned(usize, usize),
    /// Among the substitutes of one of the plan.
    Part(Arc<[Block]>, usize),
    /// Made for this poll.
    Own(Box<Block>),
}

impl Asking {
    pub(super) fn new(purpose: Purpose, request: Option<usize>, block: Asked) -> Self {
        Self { purpose, request, block, begun: None, busy: 0, rest: None, resent: false }
    }

    pub(super) fn block<'a>(&'a self, plan: &'a DeviceSettings) -> &'a Block {
        match &self.block {
            Asked::Planned(cycle, place) => &plan.cycles[*cycle].blocks[*place],
            Asked::Part(blocks, place) => &blocks[*place],
            Asked::Own(block) => block,
        }
    }

    /// When it was begun, with the connection that it needed.
    pub(super) fn begun(&self, now: Moment) -> Duration {
        self.begun.unwrap_or(now.boot)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To read what the plan wants.
    Read,
    /// To find out what is refused.
    Search,
    /// To see whether values are still refused.
    Probe,
    /// To read scale registers again.
    Recheck,
    /// To see whether a silent unit answers at all.
    Small,
    /// To see whether a unit that answers a request of so many entries answers this one.
    Confirm(u16),
}

/// What a failed read means for the rest of the poll.
pub(super) enum Verdict {
    /// This request only.
    Refused,
    /// This unit does not answer.
    Silent,
    /// Nobody answers.
    Unreachable,
}

impl Verdict {
    pub(super) fn of(error: &ReadError) -> Self {
        // First, for such an error has killed the link as well.
        if error.is_of_the_connection() {
            Self::Unreachable
        } else if error.link_is_dead() || error.unit_is_gone() {
            Self::Silent
        } else {
            Self::Refused
        }
    }
}
