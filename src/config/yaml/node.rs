//! A YAML document as a tree that keeps what validation needs: order, repeated keys, which scalar was what.
//!
//! Positions are not in the tree: the parser gives none. A [`Route`] names a node by the way to it, and
//! [`locate`] finds its line and column by walking the text again, which happens for faults only.

use std::cell::Cell;
use std::fmt;
use std::ops::Range;

use serde::de::{DeserializeSeed, Deserializer, EnumAccess, Error as _, MapAccess, SeqAccess, Visitor};

/// More values than a file of the size that is allowed has, unless aliases repeat them.
pub const MAX_NODES: usize = 1_000_000;

/// The same for the bytes of its texts.
const MAX_TEXT_BYTES: usize = 8 << 20;

/// A few bytes of aliases can stand for more than a machine can hold.
const TOO_MUCH: &str = "aliases (*) repeat more than can be read; write what is meant, or less of it";

/// One YAML value.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// `null`, `~` or nothing at all.
    Null,
    /// `true`, `false`.
    Bool(bool),
    /// A whole number.
    Integer(i128),
    /// Any other number.
    Float(f64),
    /// Text, quoted or plain.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, repeated keys included.
    Mapping(Vec<(Node, Node)>),
    /// A value with a `!tag`.
    Tagged(String),
}

impl Node {
    /// The value as a person would point at it, cut to a readable length and without a password.
    pub fn shown(&self) -> String {
        match self {
            Self::Text(text) if password(text).is_some() => {
                let mut text = text.clone();
                text.replace_range(password(&text).unwrap_or_default(), "…");
                Self::Text(text).shown()
            }
            Self::Null => "nothing".to_owned(),
            Self::Bool(value) => format!("{value}, a boolean"),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => format!("{value:?}"),
            Self::Text(text) if text.chars().count() > 60 => {
                format!("\"{}…\"", text.chars().take(60).flat_map(char::escape_debug).collect::<String>())
            }
            Self::Text(text) => format!("\"{}\"", text.escape_debug()),
            Self::List(_) => "a list".to_owned(),
            Self::Mapping(_) => "a mapping".to_owned(),
            Self::Tagged(tag) => format!("a value with the tag {tag}"),
        }
    }
}

/// Where the password is in a text like `http://user:password@example.net`; what is put on a log stays there.
fn password(text: &str) -> Option<Range<usize>> {
    // The last @, because a password may have one itself: all before it is hidden.
    let end = text.rfind('@')?;
    let start = text.find("://").map_or(0, |scheme| scheme + 3);
    let colon = start + text.get(start..end)?.find(':')?;
    // What is hidden already is none, or `shown` would call itself for ever.
    Some(colon + 1..end).filter(|password| &text[password.clone()] != "…")
}

/// How many values and bytes of text a document may still have.
#[derive(Debug)]
pub struct Budget {
    nodes: Cell<usize>,
    bytes: Cell<usize>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { nodes: Cell::new(MAX_NODES), bytes: Cell::new(MAX_TEXT_BYTES) }
    }
}

impl Budget {
    /// How many values were made of a document.
    #[cfg(test)]
    pub fn nodes(&self) -> usize {
        MAX_NODES - self.nodes.get()
    }

    fn take<E: serde::de::Error>(&self, nodes: usize, bytes: usize) -> Result<(), E> {
        match (self.nodes.get().checked_sub(nodes), self.bytes.get().checked_sub(bytes)) {
            (Some(nodes), Some(bytes)) => {
                self.nodes.set(nodes);
                self.bytes.set(bytes);
                Ok(())
            }
            _ => Err(E::custom(TOO_MUCH)),
        }
    }
}

/// Builds the tree of a document as long as its budget lasts.
#[derive(Debug, Clone, Copy)]
pub struct Build<'b>(pub &'b Budget);

impl<'de> DeserializeSeed<'de> for Build<'_> {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        // Before the value is made. The parser plays an aliased value again for each alias, so that every copy is paid
        // for.
        self.0.take(1, 0)?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Build<'_> {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    /// A document without content.
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Integer(value))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        // No key takes a number as large as that, so that it is a fault all the same; cut off it stays a number.
        Ok(Node::Integer(i128::try_from(value).unwrap_or(i128::MAX)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Node, E> {
        self.0.take(0, value.len())?;
        Ok(Node::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Node, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Node::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        // A list: a map would lose the order, and that a key comes twice, of which the Python agent took the last.
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry_seed(self, self)? {
            entries.push(entry);
        }
        Ok(Node::Mapping(entries))
    }

    fn visit_enum<A: EnumAccess<'de>>(self, data: A) -> Result<Node, A::Error> {
        // No key takes a tagged value, so that its tag, which the fault names, is all that is kept. Its content has to
        // be consumed all the same: serde leaves that to the visitor.
        let (tag, content) = data.variant::<String>()?;
        serde::de::VariantAccess::newtype_variant::<serde::de::IgnoredAny>(content)?;
        Ok(Node::Tagged(tag))
    }
}

/// One step from a node to one below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The item of a list with this place.
    Item(usize),
    /// The key of the mapping's entry with this place.
    Key(usize),
    /// The value of the mapping's entry with this place.
    Value(usize),
}

/// The way from the root to a node.
pub type Route = Vec<Step>;

/// Line and column, both from 1, of the node at `route` in `text`.
pub fn locate(text: &str, route: &[Step]) -> Option<(usize, usize)> {
    let reached = Cell::new(false);
    // serde_yaml gives no positions for values, but an error that is raised at a value carries the value's.
    let error = Seek { route, reached: &reached }.deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    // Any other error is the parser's own, and its position not that of the node.
    error.location().filter(|_| reached.get()).map(|location| (location.line(), location.column()))
}

/// Walks a document and fails on reaching the node at the end of the route: an error knows its position.
#[derive(Clone, Copy)]
struct Seek<'a> {
    route: &'a [Step],
    reached: &'a Cell<bool>,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Seek<'a> {
    fn arrive<E: serde::de::Error>(self) -> Result<(), E> {
        self.reached.set(true);
        Err(E::custom("here"))
    }

    /// Deeper by one step.
    fn along(self) -> Seek<'a> {
        Seek { route: &self.route[1..], ..self }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<(), E> {
        self.arrive()
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<(), E> {
        self.arrive()
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<(), E> {
        self.arrive()
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<(), E> {
        self.arrive()
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<(), E> {
        self.arrive()
    }

    fn visit_str<E: serde::de::Error>(self, _: &str) -> Result<(), E> {
        self.arrive()
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        // Also where the route names something else: then the list itself is as near as one can come.
        let Some(&Step::Item(wanted)) = self.route.first() else { return self.arrive() };
        for _ in 0..wanted {
            seq.next_element::<serde::de::IgnoredAny>()?;
        }
        seq.next_element_seed(self.along())?;
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let (wanted, key) = match self.route.first() {
            Some(&Step::Key(wanted)) => (wanted, true),
            Some(&Step::Value(wanted)) => (wanted, false),
            _ => return self.arrive(),
        };
        for _ in 0..wanted {
            map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?;
        }
        if key {
            map.next_key_seed(self.along())?;
        } else {
            map.next_key::<serde::de::IgnoredAny>()?;
            map.next_value_seed(self.along())?;
        }
        Ok(())
    }

    fn visit_enum<A: EnumAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        self.reached.set(true);
        Err(A::Error::custom("here"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_shown_without_its_password() {
        let cases = [
            ("http://me:secret@host:20201/x", "\"http://me:…@host:20201/x\""),
            ("me:sec:ret@host", "\"me:…@host\""),
            ("me:p@ss@host", "\"me:…@host\""),
            ("me@host:502", "\"me@host:502\""),
            ("a@b://c:d", "\"a@b://c:d\""),
            ("[2001:db8::7]:502", "\"[2001:db8::7]:502\""),
        ];
        for (text, shown) in cases {
            assert_eq!(Node::Text(text.to_owned()).shown(), shown);
        }
    }
}
