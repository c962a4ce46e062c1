//! What the configuration fixes of every body: the text of its pairs and of its rows.
//!
//! Rendered once; an encoder only copies from it. So that a reading costs few copies, what a point alone has lies
//! together: its checksum, the beginning of the pair of its value, its row. Ids are given in this order:
//!
//! | from | for |
//! |---|---|
//! | 0 | pairs that several points may have |
//! | [`Catalogue::passing`] | what a batch alone knows: timestamps, and values of points that are in it more than once |
//! | [`Catalogue::own`] | of each point, its checksum and its value |
//! | [`Catalogue::beyond`] | what is left over when a batch has more timestamps and values than were foreseen |

use std::collections::HashMap;
use std::ops::Range;
use std::time::Duration;

use super::push_id;
use super::short::Short;
use crate::outputs::pattoo::identity::{self, Agent, IdentityError, Series, wire_millis};
use crate::outputs::pattoo::json;

/// Where in [`Catalogue::start`] the thirteen digits of the timestamp go; zeros until then.
pub(super) const TIMESTAMP_PLACE: Range<usize> = 26..39;
const START: &[u8] = b"{\"pattoo_agent_timestamp\":0000000000000,\"pattoo_agent_id\":";

/// The place of a pair among those that the configuration fixes, and its id in every body.
pub(super) type PairId = usize;

/// So many ids are kept for what a batch alone knows; more are taken from beyond all others.
const PASSING: usize = 10_000;

/// Everything about the series of one configuration that is the same in every body.
#[derive(Debug)]
pub struct Catalogue {
    /// The body up to its first pair.
    pub(super) start: Vec<u8>,
    /// The pairs that several points may have, `"7":["pattoo_key","input_register_30387"],` each.
    pub(super) shared: Texts,
    /// What the pairs of many points have in common.
    pub(super) families: Vec<Family>,
    /// Of each point, which of the shared pairs it has, and where its texts are.
    points: Vec<PointPairs>,
    /// Of each point, one after the other: its checksum and the beginning of its value
    /// (`"8":["pattoo_checksum","…"],"9":["pattoo_value",`), the start of its row (`[0,1,2,3,4,5,6,7,9,`), and the end of
    /// its row (`,8],`). Behind the last one is room for a [`Short`].
    texts: Vec<u8>,
    own: PairId,
}

/// Pairs that datapoints share but for their key, in the order of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Family {
    /// Unit, polling interval, host name, agent id, target, program.
    pub(super) before_key: [PairId; 6],
    pub(super) data_type: PairId,
}

impl Family {
    pub(super) fn pairs(self) -> impl Iterator<Item = PairId> {
        self.before_key.into_iter().chain([self.data_type])
    }
}

/// The shared pairs that every datapoint of one point has. Small, because a batch looks at thousands of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct PointPairs {
    /// The place in [`Catalogue::families`].
    family: u32,
    key: u32,
    /// Where in [`Catalogue::texts`] its texts begin.
    texts: usize,
    /// How long they are: its pairs, its row, the row's end.
    lengths: [u8; 3],
}

impl PointPairs {
    /// The place in [`Catalogue::families`].
    pub(super) fn family(self) -> usize {
        self.family as usize
    }

    pub(super) fn key(self) -> PairId {
        self.key as usize
    }

    /// Where its pairs, its row and the row's end begin, and where that ends.
    fn places(self) -> [usize; 4] {
        let [pairs, row, end] = self.lengths.map(usize::from);
        let start = self.texts;
        [start, start + pairs, start + pairs + row, start + pairs + row + end]
    }
}

impl Catalogue {
    /// The catalogue of `agent`'s `series`; a point's place in `series` is its
    /// [`PointId`](crate::reading::PointId).
    ///
    /// # Errors
    /// When `polling_interval`, which every body states beside those of the series, is none that the
    /// server can store.
    pub fn new(agent: &Agent, polling_interval: Duration, series: &[Series]) -> Result<Self, IdentityError> {
        let mut start = START.to_vec();
        json::push_string(&mut start, agent.id().as_str());
        start.extend_from_slice(b",\"pattoo_agent_polling_interval\":");
        json::push_integer(&mut start, wire_millis(polling_interval)?.into());
        start.extend_from_slice(b",\"pattoo_datapoints\":{\"key_value_pairs\":{");

        let mut shared = Shared::default();
        let mut points = Vec::with_capacity(series.len());
        for series in series {
            points.push(shared.add(agent, series)?);
        }
        let own = shared.pairs.len() + PASSING.min(2 * series.len());
        let mut this = Self { start, shared: shared.pairs, families: shared.families, points, texts: Vec::new(), own };
        for (place, series) in series.iter().enumerate() {
            this.render(place, &series.checksum(agent));
        }
        this.texts.extend_from_slice(&[0; Short::MOST]);
        this.texts.shrink_to_fit();
        Ok(this)
    }

    /// How many points it knows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.points.len()
    }

    /// Whether it knows no point.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The first id of what a batch alone knows.
    pub(super) fn passing(&self) -> PairId {
        self.shared.len()
    }

    /// The first id of a point's own.
    pub(super) fn own(&self) -> PairId {
        self.own
    }

    /// The first id that nothing is kept for.
    pub(super) fn beyond(&self) -> PairId {
        self.own + 2 * self.points.len()
    }

    /// What is known of the point at `place`, if there is one.
    pub(super) fn point(&self, place: usize) -> Option<PointPairs> {
        self.points.get(place).copied()
    }

    /// The checksum of the point, and its value as far as it is known.
    pub(super) fn pairs(&self, point: PointPairs) -> &[u8] {
        let [pairs, row, ..] = point.places();
        &self.texts[pairs..row]
    }

    /// The row of the point until its timestamp, when its value has the id of its own.
    pub(super) fn row(&self, point: PointPairs) -> &[u8] {
        let [_, row, end, _] = point.places();
        &self.texts[row..end]
    }

    /// The row after its timestamp.
    pub(super) fn row_end(&self, point: PointPairs) -> Short {
        let [_, _, start, end] = point.places();
        let bytes = self.texts.get(start..).and_then(<[u8]>::first_chunk);
        bytes.map_or_else(Short::default, |bytes| Short::at_start_of(bytes, end - start))
    }

    /// The row until its value, which has another id.
    pub(super) fn row_of_another_value(&self, point: PointPairs) -> &[u8] {
        let row = self.row(point);
        let end = row.iter().rposition(|&byte| byte == b',').unwrap_or(0);
        let end = row[..end].iter().rposition(|&byte| byte == b',').unwrap_or(0);
        &row[..=end]
    }

    fn render(&mut self, place: usize, checksum_text: &str) {
        let point = self.points[place];
        let Family { before_key, data_type } = self.families[point.family()];
        let checksum = self.own + 2 * place;
        let value = checksum + 1;

        let texts = &mut self.texts;
        let start = texts.len();
        texts.push(b'"');
        push_id(texts, checksum);
        texts.extend_from_slice(b"\":[\"pattoo_checksum\",\"");
        texts.extend_from_slice(checksum_text.as_bytes());
        texts.extend_from_slice(b"\"],\"");
        push_id(texts, value);
        texts.extend_from_slice(b"\":[\"pattoo_value\",");

        let row = texts.len();
        texts.push(b'[');
        for id in before_key.into_iter().chain([point.key(), data_type, value]) {
            push_id(texts, id);
            texts.push(b',');
        }

        let row_end = texts.len();
        texts.push(b',');
        push_id(texts, checksum);
        texts.extend_from_slice(b"],");

        // Ids have eleven digits at most, for point ids have 32 bits: that is 150, 110 and 14 bytes.
        let lengths = [row - start, row_end - row, texts.len() - row_end];
        let lengths = lengths.map(|length| u8::try_from(length).unwrap_or(u8::MAX));
        self.points[place] = PointPairs { texts: start, lengths, ..point };
    }
}

/// The shared pairs, as they are found.
#[derive(Default)]
struct Shared<'a> {
    pairs: Texts,
    families: Vec<Family>,
    known_pairs: HashMap<Vec<u8>, PairId>,
    known_families: HashMap<Family, usize>,
    /// The series before, and its family: the next one is likely to be of the same device.
    last: Option<(&'a Series, usize)>,
}

impl<'a> Shared<'a> {
    fn add(&mut self, agent: &Agent, series: &'a Series) -> Result<PointPairs, IdentityError> {
        // Spares six texts and their look-up for each point of a device but the first.
        let alike = self.last.filter(|(last, _)| last.differs_only_in_key(series));
        let family = alike.map_or_else(|| self.family(agent, series), |(_, family)| Ok(family))?;
        self.last = Some((series, family));
        let key = self.pair("pattoo_key", Literal::Text(series.key()));
        // A point brings eight pairs at most, and no configuration has more than a few million points.
        let [family, key] = [family, key].map(|place| u32::try_from(place).unwrap_or(u32::MAX));
        Ok(PointPairs { family, key, texts: 0, lengths: [0; 3] })
    }

    /// The place of the family of `series`.
    fn family(&mut self, agent: &Agent, series: &Series) -> Result<usize, IdentityError> {
        let before_key = [
            self.pair("unit", Literal::Text(&series.unit())),
            self.pair("pattoo_agent_polling_interval", Literal::Text(&wire_millis(series.interval())?.to_string())),
            self.pair("pattoo_agent_hostname", Literal::Text(agent.hostname())),
            self.pair("pattoo_agent_id", Literal::Text(agent.id().as_str())),
            self.pair("pattoo_agent_polled_target", Literal::Text(series.target())),
            self.pair("pattoo_agent_program", Literal::Text(agent.program())),
        ];
        let data_type = self.pair("pattoo_data_type", Literal::Number(identity::code(series.kind()).into()));
        let families = &mut self.families;
        let family = Family { before_key, data_type };
        Ok(*self.known_families.entry(family).or_insert_with(|| {
            families.push(family);
            families.len() - 1
        }))
    }

    /// The id of a pair, which is rendered if it is new.
    fn pair(&mut self, key: &str, value: Literal<'_>) -> PairId {
        let mut content = Vec::new();
        json::push_string(&mut content, key);
        content.push(b',');
        match value {
            Literal::Text(text) => json::push_string(&mut content, text),
            Literal::Number(number) => json::push_integer(&mut content, number),
        }
        let pairs = &mut self.pairs;
        *self.known_pairs.entry(content).or_insert_with_key(|content| {
            let id = pairs.len();
            pairs.push(&[format!("\"{id}\":[").as_bytes(), content, b"],"].concat());
            id
        })
    }
}

/// The two kinds of values that a fixed pair can have.
#[derive(Clone, Copy)]
enum Literal<'a> {
    Text(&'a str),
    Number(i64),
}

/// Many small texts in one allocation.
#[derive(Debug, Default)]
pub(super) struct Texts {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Texts {
    fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.ends.push(self.bytes.len());
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text pushed as number `place`, counted from 0.
    pub(super) fn text(&self, place: usize) -> &[u8] {
        let start = place.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.bytes[start..self.ends[place]]
    }
}
