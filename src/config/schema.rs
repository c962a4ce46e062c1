//! The JSON schema of `pattoo_agent_modbustcpd.yaml`, for editors: which keys there are, what they do, what their values look like.
//!
//! The keys at the top come from the table of the parser ([`keys::TABLE`]); those below stand here with what they do, and a test
//! holds them to the lists by which the parser knows its keys. The schema describes files of this agent: what is taken from files of
//! the Python agent with a warning is none of it. `config/pattoo_agent_modbustcpd.schema.json` is this text.

use serde_json::{Map, Value, json};

use super::shape::Shape;
use super::{keys, outputs, registers};

/// A key, what its value looks like, what it does.
type Row = (&'static str, Shape, &'static str);

const TAGS: Shape = Shape::Map(&Shape::Word);
const TEMPLATE: Shape = Shape::Text;
const REGISTERS: Shape = Shape::Of("registers");
const BITS: Shape = Shape::Of("coils");
const ORDERS: Shape = Shape::Pattern(
    "^ *([aA][bB]|[bB][aA]|[aA][bB][cC][dD]([eE][fF][gG][hH])?|([hH][gG][fF][eE])?[dD][cC][bB][aA]|[bB][aA][dD][cC]([fF][eE][hH][gG])?|([gG][hH][eE][fF])?[cC][dD][aA][bB]) *$",
);
const SENTINELS: Shape =
    Shape::Any(&[Shape::Pattern("^ *[sS][uU][nN][sS][pP][eE][cC] *$"), Shape::OneOrMore(&Shape::Number)]);
const PATH: Shape = Shape::Text;
const RANGE: Shape = Shape::Pattern("^ *[0-9]+ *- *[0-9]+ *$");
/// Coils, as some write them.
const ZEROS: Shape = Shape::Pattern("^0[0-9]+$");
const UNIT: Shape = Shape::Any(&[Shape::Integer(0, 255), Shape::Pattern("^ *[0-9]+ *(-|\\.\\.) *[0-9]+ *$")]);

/// A polling group.
const GROUP: [Row; 14] = [
    ("group_name", Shape::Word, "What the group is called in messages; no server is told."),
    ("ip_devices", Shape::OneOrMore(&Shape::Text), "The devices: name, address, host:port, or serial:/dev/ttyUSB0."),
    ("ip_targets", Shape::OneOrMore(&Shape::Text), "The same as ip_devices."),
    ("unit", Shape::OneOrMore(&UNIT), "The unit id, or a list of which each is polled."),
    ("polling_interval", Shape::Duration, "Time between two polls."),
    ("input_registers", REGISTERS, "Numbers from 30001 or 300001."),
    ("holding_registers", REGISTERS, "Numbers from 40001 or 400001."),
    ("coils", BITS, "Numbers from 1."),
    ("discrete_inputs", BITS, "Numbers from 10001 or 100001."),
    ("type", Shape::Of("type"), "The type of registers that say nothing else."),
    ("order", ORDERS, "The order of bytes of registers that say nothing else; A is the most significant one."),
    ("unavailable", SENTINELS, "What the device says instead of a value: sunspec, a number, or a list of numbers."),
    ("together", Shape::Flag, "Whether what the group reads of a table is read by one request or not at all."),
    ("tags", TAGS, "Tags of all points of the group."),
];

/// A register; bits have some of these.
const REGISTER: [Row; 18] = [
    ("address", Shape::Any(&[Shape::Integer(1, 465_536), RANGE, ZEROS]), "Its number, or a range of numbers."),
    ("multiplier", Shape::Number, "The value is what is read times this."),
    ("type", Shape::Of("type"), "What the registers hold; uint16 without it."),
    ("order", ORDERS, "How the bytes are arranged; A is the most significant one."),
    ("byte", Shape::OneOf(&["low", "high"]), "Which byte, with uint8 and int8."),
    ("bit", Shape::Integer(0, 15), "One bit of the register, 0 being the least significant one."),
    (
        "bits",
        Shape::Any(&[Shape::Integer(0, 15), Shape::Pattern("^ *[0-9]+ *(-|\\.\\.=?) *[0-9]+ *$")]),
        "Some bits, such as 4..7.",
    ),
    ("offset", Shape::Number, "Added after the multiplication."),
    ("scale_register", Shape::Integer(1, 465_536), "The number of the register that holds the power of ten."),
    ("unavailable", SENTINELS, "What the device says instead of a value."),
    ("minimum", Shape::Number, "A value below it is none."),
    ("maximum", Shape::Number, "A value above it is none."),
    ("counter", Shape::Flag, "Whether the value only grows, so that a server charts its rate."),
    ("count", Shape::Integer(1, 65_536), "How many such values follow each other."),
    ("name", Shape::Word, "What it is called."),
    ("unit_of_measurement", Shape::Word, "What it is measured in."),
    ("tags", TAGS, "Its tags."),
    ("values", Shape::Map(&Shape::Word), "Texts for numbers, such as {0: off, 1: heating}."),
];

/// A device, or all of them.
const DEVICE: [Row; 19] = [
    ("transport", Shape::OneOf(&["tcp", "rtu", "tls"]), "Modbus TCP, RTU over TCP, or Modbus/TCP Security."),
    ("connect_timeout", Shape::Duration, "How long to wait for a connection."),
    ("response_timeout", Shape::Duration, "How long to wait for a reply."),
    ("pause_after_connect", Shape::Duration, "How long to wait before the first request."),
    ("pause_between_requests", Shape::Duration, "How long to wait between two requests."),
    ("close_after_poll", Shape::Flag, "Whether the connection is closed after each poll."),
    ("ignore_transaction_id", Shape::Flag, "Whether a reply may have another transaction id."),
    ("ignore_unit_id", Shape::Flag, "Whether a reply may have another unit id."),
    ("max_registers", Shape::Integer(1, 125), "The most registers in a request."),
    ("max_bits", Shape::Integer(1, 2000), "The most bits in a request."),
    ("max_gap", Shape::Integer(0, 123), "How many registers that nobody asked for are read to save a request."),
    ("retries", Shape::Integer(0, 10), "How often a busy device is asked again."),
    ("max_backoff", Shape::Duration, "How long a device that does not answer is left alone at most."),
    ("baud", Shape::Integer(110, 4_000_000), "Bits a second of a serial line."),
    ("parity", Shape::OneOf(&["none", "even", "odd"]), "Parity of a serial line."),
    ("stop_bits", Shape::Integer(1, 2), "Stop bits of a serial line."),
    ("tls", Shape::Of("tls"), "Whom to believe, and who we are."),
    ("name", Shape::Word, "What the device is called."),
    ("tags", TAGS, "Tags of all its points."),
];

/// Outputs, whatever their types; which of these a type takes the parser knows.
const OUTPUT: &[Row] = &[
    ("name", Shape::Text, "The name by which it is known; another name is another output."),
    ("start", Shape::OneOf(&["end", "beginning"]), "Where it begins in the log of readings when it is new."),
    (
        "split_refused_after",
        Shape::Duration,
        "How long a post may be refused before the reading that is the reason is searched for.",
    ),
    ("max_backoff", Shape::Duration, "How long the server is left alone at most after posts that failed."),
    ("max_age", Shape::Duration, "Older readings are not delivered any more."),
    ("url", Shape::Pattern("^[a-z]+://"), "Where the server is."),
    ("tls", Shape::Of("tls"), "Whom to believe, and who we are."),
    ("username", Shape::Text, "Who we are; with password_file."),
    ("password_file", PATH, "The file that holds the password."),
    ("token_file", PATH, "The file that holds the token."),
    ("headers", Shape::Map(&Shape::Word), "Headers of each request."),
    ("proxy", Shape::Any(&[Shape::Text, Shape::Of("proxy")]), "The HTTP proxy on the way."),
    ("timeout", Shape::Duration, "How long a post may take."),
    ("path", PATH, "The file."),
    ("format", Shape::OneOf(&["jsonl", "csv"]), "How lines are written."),
    ("max_bytes", Shape::Bytes, "How large the file may grow."),
    ("keep", Shape::Integer(0, 1000), "How many full files are kept."),
    ("database", Shape::Text, "The database."),
    ("retention_policy", Shape::Text, "The retention policy."),
    ("org", Shape::Text, "The organization."),
    ("bucket", Shape::Text, "The bucket."),
    ("api", Shape::OneOf(&["v1", "v2", "v3"]), "Which API of the database."),
    ("measurement", TEMPLATE, "The measurement, a template."),
    ("field", TEMPLATE, "The field, a template."),
    ("tags", TAGS, "Tags of each line, templates."),
    ("integers", Shape::Flag, "Whether integers are written as such."),
    ("gzip", Shape::Flag, "Whether posts are compressed."),
    ("parameters", Shape::Map(&Shape::Word), "Parameters of the URL."),
    ("metric", TEMPLATE, "The name of the metric, a template."),
    ("counter_suffix", Shape::Text, "The end of the names of counters."),
    ("labels", TAGS, "Labels of each series, templates."),
    ("attributes", TAGS, "Attributes of each data point, templates."),
    ("resource", TAGS, "Attributes of the resource."),
    ("counters", Shape::OneOf(&["sum", "gauge"]), "What a counter is."),
    ("version", Shape::Word, "The version of MQTT, 5 or 3.1.1."),
    ("client_id", Shape::Text, "The client id."),
    ("topic", TEMPLATE, "The topic, a template."),
    ("payload", Shape::Text, "What a message holds."),
    ("messages", Shape::Text, "What a message is about."),
    ("retain", Shape::Flag, "Whether the broker keeps the last message."),
    ("availability_topic", Shape::Text, "Where it says that it is there."),
    ("home_assistant", Shape::Flag, "Whether points are announced to Home Assistant."),
    ("discovery_prefix", Shape::Text, "Where Home Assistant looks for announcements."),
];

const TLS: &[Row] = &[
    ("ca", PATH, "The file with the certificates that are believed."),
    ("pin", Shape::Text, "The SHA-256 of the one certificate that is believed."),
    ("certificate", PATH, "The file with our certificate."),
    ("key", PATH, "The file with its key."),
    ("server_name", Shape::Text, "The name that the certificate must have, where it is not the host's."),
];

const PROXY: &[Row] = &[
    ("url", Shape::Pattern("^http://"), "Where the proxy is."),
    ("username", Shape::Text, "Who we are there."),
    ("password_file", PATH, "The file that holds the password."),
];

/// The schema, as text.
#[must_use]
pub fn text() -> String {
    serde_json::to_string_pretty(&schema()).unwrap_or_default() + "\n"
}

fn schema() -> Value {
    let top = keys::TABLE.iter().map(|key| {
        let mut schema = key.shape.schema();
        describe(&mut schema, &format!("{}. Allowed: {}. Default: {}.", capital(key.what), key.allowed, key.default));
        (key.name.to_owned(), schema)
    });
    let kinds = registers::TYPES.map(|(name, _)| name);
    let number = json!({"type": "integer", "minimum": 0, "maximum": 465_536});
    let numbers = |of: &str| {
        json!({"anyOf": [
            {"type": "array", "items": {"anyOf": [number, RANGE.schema(), ZEROS.schema(), {"$ref": format!("#/$defs/{of}")}]}},
            {"type": "object", "description": "Numbers and their names.", "propertyNames": {"pattern": "^[0-9]"},
             "additionalProperties": Shape::Word.schema()},
            {"type": "null"},
        ]})
    };
    // One table for both: a key that a bit takes has the same meaning there.
    let bits = REGISTER.iter().filter(|(key, ..)| registers::BIT_KEYS.contains(key));
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "pattoo_agent_modbustcpd.yaml",
        "description": "What the agent polls, and where readings go.",
        "type": "object",
        "properties": top.collect::<Map<_, _>>(),
        "required": ["polling_groups"],
        "additionalProperties": false,
        "$defs": {
            "group": object(GROUP.iter(), &[]),
            "registers": numbers("register"),
            "register": object(REGISTER.iter(), &["address"]),
            "coils": numbers("coil"),
            "coil": object(bits, &["address"]),
            "device": object(DEVICE.iter(), &[]),
            "tls": object(TLS.iter(), &[]),
            "proxy": object(PROXY.iter(), &["url"]),
            "output": output(),
            // Upper case is taken too, and completed by no editor.
            "type": {"anyOf": [{"enum": kinds}, {"type": "string", "pattern": any_case(&kinds)}]},
        },
    })
}

/// An entry of `outputs`: a type, or a mapping with one and with what that type takes.
fn output() -> Value {
    let names: Vec<&str> = outputs::keys_by_type().map(|(name, _)| name).collect();
    let mut all = vec![json!({"enum": names})];
    for (name, keys) in outputs::keys_by_type() {
        // What no row describes may be anything.
        let of = |key: &&str| OUTPUT.iter().find(|(known, ..)| known == key).copied();
        let rows: Vec<Row> = keys.iter().filter_map(of).collect();
        let mut schema = object(rows.iter(), &["type"]);
        for key in keys.iter().filter(|key| of(key).is_none()) {
            schema["properties"][*key] = json!(true);
        }
        schema["properties"]["type"] = json!({"const": name});
        all.push(schema);
    }
    json!({"anyOf": all})
}

fn object<'r>(rows: impl Iterator<Item = &'r Row>, required: &[&str]) -> Value {
    let mut properties = Map::new();
    for (key, shape, what) in rows {
        let mut schema = shape.schema();
        describe(&mut schema, what);
        properties.insert((*key).to_owned(), schema);
    }
    // No other keys, so that an editor marks a slip while it is typed.
    let mut object = json!({"type": "object", "properties": properties, "additionalProperties": false});
    if !required.is_empty() {
        object["required"] = json!(required);
    }
    object
}

/// A reference takes nothing beside it, in this version of JSON schema.
fn describe(schema: &mut Value, what: &str) {
    if let Some(reference) = schema.as_object_mut().and_then(|schema| schema.remove("$ref")) {
        *schema = json!({"allOf": [{"$ref": reference}]});
    }
    schema["description"] = json!(what);
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

/// The words in upper or lower case.
fn any_case(words: &[&str]) -> String {
    let either = |it: char| {
        let (lower, upper) = (it.to_ascii_lowercase(), it.to_ascii_uppercase());
        if lower == upper { it.to_string() } else { format!("[{lower}{upper}]") }
    };
    let words: Vec<String> = words.iter().map(|word| word.chars().map(either).collect()).collect();
    format!("^ *({}) *$", words.join("|"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{groups, settings};

    fn names(rows: &[Row]) -> Vec<&'static str> {
        rows.iter().map(|(key, ..)| *key).collect()
    }

    /// A key that the parser takes and an editor would underline, or the other way round, is a slip here.
    #[test]
    fn the_schema_has_the_keys_of_the_parser() {
        assert_eq!(names(&GROUP), groups::KEYS);
        assert_eq!(names(&REGISTER), registers::KEYS);
        assert_eq!(names(&DEVICE), settings::KEYS);
        let of_outputs: Vec<&str> = outputs::keys_by_type().flat_map(|(_, keys)| keys).collect();
        for key in names(OUTPUT) {
            assert!(of_outputs.contains(&key), "{key}");
        }
        let described = of_outputs.iter().filter(|key| **key == "type" || names(OUTPUT).contains(key)).count();
        assert!(described * 10 > of_outputs.len() * 9, "{described} of {}", of_outputs.len());
        assert!(names(TLS).iter().eq(crate::config::tls::KEYS.iter()));
    }
}
