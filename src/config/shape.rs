//! What the value of a key may look like, as data: what editors are told ([`super::schema`]). The parser refuses more than a
//! shape can say (a range, a clash of two keys), never less.

use serde_json::{Value, json};

/// Durations such as `10s` or `1h 30m`.
const DURATION: &str = "^ *[0-9]+ *[a-zA-Z]+( *[0-9]+ *[a-zA-Z]+)* *$";

/// The form of a value.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// `true` or `false`.
    Flag,
    /// Any text on one line.
    Text,
    /// A text, or a number or a boolean that is taken as a text.
    Word,
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// A whole number from the first to the second.
    Integer(i64, i64),
    /// Any number.
    Number,
    /// A number of seconds, or a duration with its unit.
    Duration,
    /// A number of bytes, or with its unit.
    Bytes,
    /// A text of this form.
    Pattern(&'static str),
    /// A list of these.
    List(&'static Shape),
    /// One of them, or a list.
    OneOrMore(&'static Shape),
    /// A mapping with any keys to values of this form.
    Map(&'static Shape),
    /// Any of these.
    Any(&'static [Shape]),
    /// Nothing: the key is there and says nothing.
    Null,
    /// What stands under `$defs` by this name.
    Of(&'static str),
}

impl Shape {
    /// As JSON schema.
    #[must_use]
    pub fn schema(self) -> Value {
        match self {
            Self::Flag => json!({"type": "boolean"}),
            Self::Text => json!({"type": "string"}),
            Self::Word => json!({"type": ["string", "number", "boolean"]}),
            Self::OneOf(words) => json!({"enum": words}),
            Self::Integer(least, most) => json!({"type": "integer", "minimum": least, "maximum": most}),
            Self::Number => json!({"type": "number"}),
            Self::Duration => {
                json!({"anyOf": [{"type": "number"}, {"type": "string", "pattern": DURATION}]})
            }
            Self::Bytes => {
                json!({"anyOf": [
                    {"type": "integer", "minimum": 0},
                    {"type": "string", "pattern": "^ *[0-9]+ *([kKmMgGtT]i?)?[bB]? *$"},
                ]})
            }
            Self::Pattern(pattern) => json!({"type": "string", "pattern": pattern}),
            Self::List(of) => json!({"type": "array", "items": of.schema()}),
            Self::OneOrMore(of) => json!({"anyOf": [of.schema(), {"type": "array", "items": of.schema()}]}),
            // Nothing, too: all lines below the key may be comments.
            Self::Map(of) => json!({"type": ["object", "null"], "additionalProperties": of.schema()}),
            Self::Any(shapes) => json!({"anyOf": shapes.iter().map(|shape| shape.schema()).collect::<Vec<_>>()}),
            Self::Null => json!({"type": "null"}),
            Self::Of(name) => json!({"$ref": format!("#/$defs/{name}")}),
        }
    }
}
