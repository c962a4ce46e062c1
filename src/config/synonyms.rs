//! What other collectors call the keys, types and orders that are known here: the one table by which an unknown word leads to
//! the right one.
//!
//! The words are those of Telegraf, Home Assistant, Node-RED, `EdgeX`, Kepware, vendors' manuals and the Python libraries. They
//! are only ever part of a message: none is taken for the key, because a word may mean something else where it comes from
//! (`offset` is an address there and a number to be added here). Upper and lower case, `_`, `-` and spaces make no difference.

/// What a word is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Meant {
    /// The word to write; empty where there is none.
    pub word: &'static str,
    /// What to know besides; empty where the word says it all.
    pub how: &'static str,
}

/// Words of others, what they are here, what to know besides. Of several rows with a word, the first one whose key is known at
/// the place in question counts: `unit` is a unit id in a group and a unit of measurement in a register.
type Row = (&'static [&'static str], &'static str, &'static str);

const INTERVALS: &[&str] = &[
    "interval",
    "scan_interval",
    "scan_rate",
    "scan_time",
    "poll_interval",
    "poll_rate",
    "poll_period",
    "polling_rate",
    "polling_period",
    "polling_time",
    "update_interval",
    "sample_interval",
    "sampling_interval",
    "collect_interval",
    "refresh_interval",
    "refresh",
    "period",
    "cycle",
    "cycle_time",
    "frequency",
    "every",
];

const UNIT_IDS: &[&str] = &[
    "slave",
    "slaves",
    "slave_id",
    "slave_ids",
    "slave_address",
    "slave_addr",
    "slave_number",
    "unit",
    "units",
    "unit_id",
    "unit_ids",
    "unit_identifier",
    "unit_number",
    "uid",
    "station",
    "station_id",
    "station_number",
    "device_id",
    "dev_id",
    "device_address",
    "node",
    "node_id",
    "server_id",
    "server_address",
    "modbus_id",
    "modbus_address",
    "modbus_unit",
];

const HOSTS: &[&str] = &[
    "host",
    "hosts",
    "hostname",
    "hostnames",
    "host_name",
    "ip",
    "ips",
    "ip_address",
    "ip_addresses",
    "ip_addr",
    "ip_device",
    "ip_target",
    "address",
    "addresses",
    "device",
    "devices",
    "server",
    "servers",
    "target",
    "targets",
    "endpoint",
    "endpoints",
    "controller",
    "gateway",
    "connection",
    "url",
    "uri",
    "serial_port",
    "tty",
    "com_port",
];

const NAMES: &[&str] = &["name", "title", "label", "alias", "description", "friendly_name", "display_name", "caption"];

const LABELS: &[&str] = &["labels", "label_set", "attributes", "metadata", "annotations", "extra_tags", "global_tags"];

const ORDERS: &[&str] = &[
    "byte_order",
    "word_order",
    "byteorder",
    "wordorder",
    "endian",
    "endianness",
    "endianess",
    "byte_endian",
    "word_endian",
    "big_endian",
    "little_endian",
    "swap",
    "swap_words",
    "swap_bytes",
    "word_swap",
    "byte_swap",
    "swapped",
    "register_order",
    "reg_order",
    "msw_first",
    "lsw_first",
];

const TYPES: &[&str] = &[
    "data_type",
    "datatype",
    "value_type",
    "dtype",
    "format",
    "data_format",
    "raw_type",
    "native_type",
    "variable_type",
    "encoding",
    "structure",
    "number_type",
];

const NO_VALUES: &[&str] = &[
    "nan",
    "nan_value",
    "nan_values",
    "no_value",
    "null_value",
    "invalid",
    "invalid_value",
    "not_available",
    "sentinel",
];

const LISTS: &[&str] = &[
    "registers",
    "register",
    "points",
    "point",
    "datapoints",
    "data_points",
    "sensors",
    "metrics",
    "fields",
    "variables",
    "measurements",
    "signals",
    "requests",
    "items",
    "holding",
    "holding_register",
];

const OF_A_TABLE: &[&str] = &[
    "register_type",
    "reg_type",
    "registertype",
    "input_type",
    "function",
    "function_code",
    "fc",
    "table",
    "object_type",
    "area",
    "space",
    "kind",
];

const TIMEOUTS: &[&str] =
    &["timeout", "response_time", "read_timeout", "reply_timeout", "request_timeout", "receive_timeout", "timeout_ms"];

const THE_LISTS: &str =
    "or input_registers, coils, discrete_inputs: the list that a register stands in says which table it is of";

const HOW_HOSTS: &str = "a list of \"name\" or \"address\", with a port as \"host:port\"";

/// The keys. Rows for one place stand together, from the top of the file inwards.
const KEYS: &[Row] = &[
    // The top of the file.
    (INTERVALS, "polling_interval", ""),
    (
        &[
            "groups",
            "group",
            "slaves",
            "hubs",
            "hub",
            "sensors",
            "points",
            "requests",
            "metrics",
            "polling_group",
            "polls",
            "tasks",
            "meters",
            "modbus",
            "connections",
            "targets",
            "registers",
            "holding_registers",
            "input_registers",
        ],
        "polling_groups",
        "a list, each entry with ip_devices and registers",
    ),
    (&["defaults", "device_default", "default", "settings"], "device_defaults", ""),
    (
        &["device", "device_settings", "hosts", "host"],
        "devices",
        "settings of devices; what is polled stands in polling_groups",
    ),
    (
        &[
            "output",
            "sinks",
            "sink",
            "exporters",
            "exporter",
            "influxdb",
            "influx",
            "mqtt",
            "prometheus",
            "otlp",
            "opentelemetry",
            "sqlite",
            "file",
            "database",
            "broker",
            "publishers",
            "destinations",
            "remote_write",
            "pattoo",
        ],
        "outputs",
        "a list, such as [pattoo], or of mappings with type and url",
    ),
    (&["hostname", "host_name", "agent_name", "agent_host", "source"], "agent_hostname", ""),
    (&["listen", "status", "status_port", "status_page", "http", "web", "metrics_port", "bind"], "status_listen", ""),
    (&["allowed_hosts", "hosts_allowed", "vhosts"], "status_hosts", ""),
    (&["logging", "log", "logformat", "log_style"], "log_format", "the level and the directory stand in pattoo.yaml"),
    (&["flush", "flush_ms", "fsync_interval", "sync_interval", "batch_timeout"], "flush_interval", ""),
    (
        &[
            "cache_size",
            "buffer_size",
            "max_cache",
            "max_bytes",
            "buffer_limit",
            "metric_buffer_limit",
            "retention_size",
        ],
        "cache_max_bytes",
        "",
    ),
    (&["max_age", "retention", "ttl", "buffer_age"], "cache_max_age", ""),
    (&["min_free", "free_space", "disk_min_free"], "cache_min_free", ""),
    // A polling group.
    (&["name", "group", "id", "title", "label", "alias", "description", "comment"], "group_name", ""),
    (HOSTS, "ip_devices", HOW_HOSTS),
    (&["port", "tcp_port", "modbus_port"], "ip_devices", "the port stands behind the device there, as \"host:port\""),
    (UNIT_IDS, "unit", "a number, or a list of which each is polled"),
    (&["input", "inputs", "input_register", "analog_input", "analog_inputs", "ir"], "input_registers", ""),
    (&["analog_output", "analog_outputs", "hr"], "holding_registers", ""),
    (&["coil", "digital_output", "digital_outputs"], "coils", ""),
    (
        &["discrete", "discrete_input", "digital_input", "digital_inputs", "di", "contacts", "status_bits"],
        "discrete_inputs",
        "",
    ),
    (LISTS, "holding_registers", THE_LISTS),
    (OF_A_TABLE, "holding_registers", THE_LISTS),
    (TYPES, "type", ""),
    (ORDERS, "order", "ABCD, DCBA, BADC or CDAB, A being the most significant byte"),
    (NO_VALUES, "unavailable", ""),
    (&["atomic", "consistent", "one_request", "block", "single_request", "contiguous"], "together", ""),
    // A register.
    (
        &[
            "register",
            "reg",
            "number",
            "start",
            "start_address",
            "index",
            "reference",
            "ref",
            "register_address",
            "addr",
            "location",
        ],
        "address",
        "counted as in the manual: 30001, 40001, 400001",
    ),
    (
        &[
            "scale",
            "factor",
            "scaling",
            "scaling_factor",
            "scale_factor",
            "gain",
            "slope",
            "multiply",
            "coefficient",
            "mult",
            "ratio",
            "resolution",
            "conversion",
            "step",
        ],
        "multiplier",
        "the value is what is read times this",
    ),
    (
        &["divisor", "divide", "divider", "div", "divide_by"],
        "multiplier",
        "what is divided by 10 has the multiplier 0.1",
    ),
    (
        &["sf", "scale_reg", "scale_address", "exponent_register", "sunspec_sf", "scaling_register"],
        "scale_register",
        "",
    ),
    (
        &["bias", "add", "addend", "intercept", "shift", "zero", "correction"],
        "offset",
        "it is added after the multiplier",
    ),
    (&["mask", "bitmask", "bit_mask", "bit_range"], "bits", "such as 4..7, 0 being the least significant one"),
    (&["bit_offset", "bit_number", "bit_position", "bit_index"], "bit", ""),
    (
        &["min", "min_value", "low", "lower", "lowest", "minimum_value", "range_min"],
        "minimum",
        "a value below it is none",
    ),
    (
        &["max", "max_value", "high", "upper", "highest", "maximum_value", "range_max"],
        "maximum",
        "a value above it is none",
    ),
    (
        &[
            "is_counter",
            "monotonic",
            "cumulative",
            "total_increasing",
            "state_class",
            "metric_type",
            "accumulator",
            "delta",
        ],
        "counter",
        "true or false",
    ),
    (
        &["length", "quantity", "size", "words", "num", "register_count", "repeat", "nb", "amount", "qty"],
        "count",
        "how many values follow each other; how many registers a value has is said by its type",
    ),
    (&["metric", "field", "id", "key", "unique_id", "comment"], "name", ""),
    (
        &[
            "units",
            "unit",
            "uom",
            "measurement_unit",
            "unit_of_measure",
            "unit_of_measurment",
            "engineering_unit",
            "engineering_units",
            "eu",
            "physical_unit",
            "dimension",
        ],
        "unit_of_measurement",
        "the unit id stands in the polling group, as unit",
    ),
    (
        &["enum", "map", "mapping", "states", "options", "value_map", "lookup", "texts", "state_map", "choices"],
        "values",
        "",
    ),
    // A device, or all of them.
    (TIMEOUTS, "response_timeout", "such as 1s; connect_timeout is another"),
    (&["connection_timeout", "conn_timeout", "connecttimeout", "dial_timeout"], "connect_timeout", ""),
    (
        &[
            "delay",
            "wait",
            "pause",
            "message_wait_milliseconds",
            "wait_milliseconds",
            "inter_request_delay",
            "request_delay",
            "inter_frame_delay",
            "pause_between_reads",
            "pause_after_request",
            "interframe",
            "gap_time",
        ],
        "pause_between_requests",
        "such as 20ms",
    ),
    (&["connect_delay", "pause_on_connect", "delay_after_connect", "startup_delay"], "pause_after_connect", ""),
    (&["retry", "max_retries", "retry_count", "attempts", "busy_retries", "retries_count"], "retries", ""),
    (&["backoff", "retry_delay", "reconnect_interval", "max_retry_delay", "busy_retries_wait"], "max_backoff", ""),
    (
        &["keepalive", "keep_alive", "persistent", "close", "close_connection", "close_connection_after_gather"],
        "close_after_poll",
        "",
    ),
    (&["baudrate", "baud_rate", "speed", "bps"], "baud", ""),
    (&["stopbits", "stop"], "stop_bits", ""),
    (
        &["method", "protocol", "framing", "framer", "mode", "transmission_mode", "type", "scheme"],
        "transport",
        "tcp, rtu or tls",
    ),
    (&["ssl", "secure", "certificate", "ca", "ca_file", "cert"], "tls", "with transport: tls"),
    (
        &[
            "max_read",
            "max_read_length",
            "max_words",
            "max_block",
            "block_size",
            "max_batch_size",
            "batch_size",
            "max_registers_per_request",
            "max_register_per_read",
            "read_limit",
        ],
        "max_registers",
        "",
    ),
    (&["max_hole", "gap", "optimization_max_register_fill", "fill", "max_gap_size"], "max_gap", ""),
    // An output.
    (
        &[
            "host",
            "hosts",
            "hostname",
            "address",
            "addresses",
            "server",
            "servers",
            "broker",
            "brokers",
            "endpoint",
            "urls",
            "uri",
            "dsn",
            "remote",
            "port",
            "ip_address",
        ],
        "url",
        "with scheme and port, such as https://server.example.net:8086",
    ),
    (&["kind", "driver", "plugin", "output", "output_type"], "type", ""),
    (&["user", "login", "user_name"], "username", ""),
    (&["password", "pass", "passwd", "pwd", "secret"], "password_file", "the file that holds it"),
    (
        &["token", "bearer_token", "api_token", "api_key", "auth_token", "credentials_file"],
        "token_file",
        "the file that holds it",
    ),
    (&["file", "files", "filename", "file_name", "db_path", "directory"], "path", ""),
    (&["db", "database_name", "dbname"], "database", ""),
    (&["organization", "organisation", "org_id"], "org", ""),
    (
        &["topic_prefix", "base_topic", "prefix", "topic_format", "state_topic"],
        "topic",
        "such as modbus/{device}/{name}",
    ),
    (&["clientid", "client"], "client_id", ""),
    (&["discovery", "homeassistant", "ha_discovery"], "home_assistant", ""),
    (&["serializer", "codec"], "format", ""),
    (&["rotation_max_size", "max_size", "max_file_size"], "max_bytes", ""),
    (&["rotation_max_archives", "backups", "max_files"], "keep", ""),
    (&["retry_interval", "backoff"], "max_backoff", ""),
    (&["from", "begin", "since", "read_from"], "start", "end or beginning"),
    // The server, in pattoo.yaml.
    (&["host", "hostname", "server", "address", "ip", "api_ip_address"], "ip_address", ""),
    (&["port", "bind_port", "ip_port", "api_port"], "ip_bind_port", ""),
    // In several places.
    (NAMES, "name", ""),
    (LABELS, "tags", ""),
    // What is not configured.
    (
        &["precision", "decimals", "digits", "round", "rounding", "decimal_places", "significant_digits"],
        "",
        "leave it out: values are delivered as exactly as they are read",
    ),
    (&["bytesize", "byte_size", "data_bits", "databits"], "", "leave it out: Modbus RTU has 8 data bits"),
    (&["enabled", "enable", "disabled", "active"], "", "put a # before the lines of what is not to be used"),
];

/// Where keys belong that stand at the wrong place.
const PLACES: &[(&str, &[&str])] = &[
    (
        "a polling group",
        &[
            "group_name",
            "ip_devices",
            "ip_targets",
            "unit",
            "input_registers",
            "holding_registers",
            "coils",
            "discrete_inputs",
            "together",
        ],
    ),
    (
        "an entry of a list such as holding_registers, {address: 40001, ...}",
        &[
            "address",
            "multiplier",
            "byte",
            "bit",
            "bits",
            "offset",
            "scale_register",
            "minimum",
            "maximum",
            "counter",
            "count",
            "unit_of_measurement",
            "values",
        ],
    ),
    ("a polling group or a register", &["type", "order", "unavailable"]),
    (
        "device_defaults, or devices below the device",
        &[
            "transport",
            "connect_timeout",
            "response_timeout",
            "pause_after_connect",
            "pause_between_requests",
            "close_after_poll",
            "ignore_transaction_id",
            "ignore_unit_id",
            "max_registers",
            "max_bits",
            "max_gap",
            "retries",
            "baud",
            "parity",
            "stop_bits",
        ],
    ),
    ("the top of pattoo_agent_modbustcpd.yaml or a polling group", &["polling_interval"]),
    (
        "the top of pattoo_agent_modbustcpd.yaml",
        &[
            "polling_groups",
            "device_defaults",
            "devices",
            "outputs",
            "flush_interval",
            "cache_min_free",
            "cache_max_bytes",
            "cache_max_age",
            "trust_local_clock",
            "agent_hostname",
            "status_listen",
            "status_hosts",
            "log_format",
        ],
    ),
    (
        "pattoo.yaml, in the section pattoo",
        &["log_level", "log_directory", "cache_directory", "daemon_directory", "system_daemon_directory"],
    ),
    ("pattoo.yaml, in the section pattoo_agent_api", &["ip_address", "ip_bind_port"]),
    (
        "an entry of outputs",
        &["url", "username", "password_file", "token_file", "path", "split_refused_after", "max_age", "start"],
    ),
];

/// The types.
const KINDS: &[Row] = &[
    (
        &["float", "real", "single", "f32", "float32_ieee", "float_32", "real32", "ieee754", "fp32", "float4"],
        "float32",
        "",
    ),
    (&["double", "lreal", "f64", "float_64", "real64", "fp64", "float8", "double_float"], "float64", ""),
    (&["half", "f16", "float_16", "fp16"], "float16", ""),
    (&["int", "integer", "signed"], "int16", "or int32, int64 where it has two or four registers"),
    (&["uint", "unsigned"], "uint16", "or uint32, uint64 where it has two or four registers"),
    (&["short", "s16", "i16", "int_16", "sint16", "signed16", "int2", "int16_t"], "int16", ""),
    (&["word", "ushort", "u16", "uint_16", "unsigned16", "unsigned_short", "uint16_t", "register"], "uint16", ""),
    (&["dint", "long", "s32", "i32", "int_32", "sint32", "signed32", "int4", "int32_t", "longint"], "int32", ""),
    (&["dword", "ulong", "u32", "uint_32", "udint", "unsigned32", "unsigned_long", "uint32_t"], "uint32", ""),
    (&["lint", "long_long", "s64", "i64", "int_64", "signed64", "int64_t"], "int64", ""),
    (&["qword", "lword", "ulint", "u64", "uint_64", "unsigned64", "unsigned_long_long", "uint64_t"], "uint64", ""),
    (
        &["byte", "u8", "uint_8", "char", "uchar", "usint", "unsigned8", "uint8l", "uint8h"],
        "uint8",
        "with byte: high or low",
    ),
    (&["s8", "i8", "int_8", "sint", "signed8", "int8l", "int8h"], "int8", "with byte: high or low"),
    (&["bcd8", "bcd_16"], "bcd16", ""),
    (&["bcd_32"], "bcd32", ""),
    (&["acc16"], "uint16", "with counter: true"),
    (&["acc32"], "uint32", "with counter: true"),
    (&["acc64"], "uint64", "with counter: true"),
    (&["enum16", "bitfield16"], "uint16", ""),
    (&["enum32", "bitfield32"], "uint32", ""),
    (&["bool", "boolean", "bit", "flag", "binary"], "", "leave type out and write bit: 0, or whichever bit it is"),
    (&["string", "str", "text", "ascii", "char_array", "utf8"], "", "text is no reading; leave this register out"),
    (&["date", "time", "timestamp", "datetime"], "", "read its registers as numbers, such as uint32, or leave it out"),
];

/// The orders.
const ARRANGED: &[Row] = &[
    (&["big", "big_endian", "be", "msb", "msb_first", "msw", "msw_first", "high_low", "none", "1234"], "ABCD", ""),
    (&["little", "little_endian", "le", "lsb", "lsb_first", "4321", "word_byte"], "DCBA", ""),
    (
        &[
            "word",
            "word_swap",
            "swap_word",
            "words",
            "lsw",
            "lsw_first",
            "low_high",
            "3412",
            "big_endian_word_swap",
            "mid_little_endian",
            "little_endian_byte_swap",
        ],
        "CDAB",
        "",
    ),
    (
        &[
            "byte",
            "byte_swap",
            "swap_byte",
            "bytes",
            "2143",
            "big_endian_byte_swap",
            "mid_big_endian",
            "little_endian_word_swap",
        ],
        "BADC",
        "",
    ),
];

/// What `found` is where the keys are `known`.
#[must_use]
pub fn key(found: &str, known: &[&str]) -> Option<Meant> {
    let is_known = |word: &str| word.is_empty() || known.contains(&word);
    look_up(KEYS, found, is_known)
}

/// Where `found` belongs, as it stands or as what it means, if that is another place than the one whose keys are `known`.
#[must_use]
pub fn elsewhere(found: &str, known: &[&str]) -> Option<(&'static str, &'static str)> {
    let place_of = |word: &str| {
        // The place in question is among these, too; it is known by its keys.
        let mut others = PLACES.iter().filter(|(_, keys)| !keys.iter().any(|key| known.contains(key)));
        others.find_map(|(place, keys)| Some((*place, *keys.iter().find(|it| **it == word)?)))
    };
    let meant = || look_up(KEYS, found, |word| place_of(word).is_some());
    // As it stands first: a key of ours at the wrong place is more likely than a word of another collector.
    place_of(found).or_else(|| place_of(meant()?.word))
}

/// What type `found` is.
#[must_use]
pub fn kind(found: &str) -> Option<Meant> {
    look_up(KINDS, found, |_| true)
}

/// What order `found` is.
#[must_use]
pub fn order(found: &str) -> Option<Meant> {
    look_up(ARRANGED, found, |_| true)
}

fn look_up(rows: &[Row], found: &str, is_fit: impl Fn(&str) -> bool) -> Option<Meant> {
    // Nobody's word is longer.
    if found.len() > 64 {
        return None;
    }
    // First what is quickly said no to: a file can have a hundred thousand words that nobody knows.
    let row = rows.iter().find(|(words, to, _)| words.iter().any(|word| plain(word).eq(plain(found))) && is_fit(to));
    row.map(|&(_, word, how)| Meant { word, how })
}

/// Without what people write differently.
fn plain(word: &str) -> impl Iterator<Item = char> {
    word.chars().filter(|it| it.is_alphanumeric()).flat_map(char::to_lowercase)
}

impl Meant {
    /// As the end of a message.
    #[must_use]
    pub fn hint(self) -> String {
        match self {
            Self { word: "", how } => how.to_owned(),
            Self { word, how: "" } => format!("did you mean \"{word}\"?"),
            Self { word, how } => format!("did you mean \"{word}\" ({how})?"),
        }
    }
}

#[cfg(test)]
mod tests;
