//! What an engineer asks before the daemon runs: check's doubts, `plan`, `once`, `probe`, by the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;

use serde_json::Value;
use support::agent::{Finished, Home};
use support::device::{Device, Mode, Table, Values};
use support::server::Server;

/// What the book shows below `command`, and what was printed instead, both without what differs from run to run.
fn assert_shown(command: &str, printed: &str, target: &str) {
    let pages = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/docs")).unwrap();
    let book: String = pages.filter_map(|page| std::fs::read_to_string(page.unwrap().path()).ok()).collect();
    let shown = book.split(&format!("$ pattoo_agent_modbustcpd {command}\n")).nth(1).unwrap();
    let shown = shown.split("```").next().unwrap().replace("192.0.2.20:1502", "DEVICE");
    // Columns are as wide as what is in them.
    let plain = |text: &str| -> Vec<String> {
        let is_time = |word: &str| word.len() == 24 && word.ends_with('Z');
        let word = |word| if is_time(word) { "TIME" } else { word };
        text.lines().map(|line| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")).collect()
    };
    let printed = plain(&printed.replace(target, "DEVICE"));
    let shown = plain(&shown);
    match shown.split_first() {
        Some((first, end)) if first == "..." => assert!(printed.ends_with(end), "{printed:#?}\n{end:#?}"),
        _ => assert_eq!(printed, shown),
    }
}

#[test]
fn what_the_book_shows_is_what_is_printed() {
    let device = holding(&[(0, 0x4145), (1, 0), (2, 7)]);
    device.refuse(Table::Holding, 3);
    let (target, server) = (device.target(), Server::start());
    let home = Home::new(server.address());
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config");
    let plan = home.output(&["plan", "--config_dir", config]).stdout;
    assert_shown("plan --config_dir config", &plan, &target);
    let translations = home.output(&["translations", "--config_dir", config]).stdout;
    assert_shown("translations --config_dir config", &translations, &target);
    home.write_config(&format!(
        "agent_hostname: gateway\npolling_groups:\n  - ip_devices: ['{target}']\n    unit: 1\n    \
         holding_registers: [{{address: 40001, type: float32}}, 40003, 40004]\n"
    ));
    assert_shown("once --config_dir /etc/pattoo", &asked(&home, &["once"]).stdout, &target);
    let probe = home.output(&["probe", &target, "40001", "4"]).stdout;
    assert_shown("probe 192.0.2.20:1502 40001 4", &probe, &target);
}

/// A home whose one group reads `lines` of `device`.
fn home(device: &Device, server: &Server, lines: &str) -> Home {
    let home = Home::new(server.address());
    write(&home, device, lines);
    home
}

fn write(home: &Home, device: &Device, lines: &str) {
    let target = device.target();
    home.write_config(&format!(
        "polling_interval: 1s\nagent_hostname: gateway\ndevice_defaults: {{response_timeout: 500ms}}\npolling_groups:\n  \
         - group_name: meters\n    ip_devices: ['{target}']\n    unit: 3\n{lines}"
    ));
}

fn asked(home: &Home, arguments: &[&str]) -> Finished {
    let directory = home.config_dir();
    home.output(&[arguments, &["--config_dir", directory.to_str().unwrap()]].concat())
}

fn holding(words: &[(u16, u16)]) -> Device {
    let overrides = words.iter().map(|&(at, word)| (None, Table::Holding, at, word)).collect();
    Device::at("127.0.0.1:0".parse().unwrap(), Values::Fixed { overrides }).unwrap()
}

/// The cells of the row of `text` that begins with `first`.
fn row<'a>(text: &'a str, first: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.split_whitespace().next() == Some(first));
    line.unwrap_or_else(|| panic!("no row {first} in:\n{text}")).split_whitespace().collect()
}

#[test]
fn plan_tells_every_request_and_what_does_not_fit() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = home(&device, &server, "    holding_registers: [40001-40100, 40102, 40300]\n    coils: [1-20]\n");
    let plan = asked(&home, &["plan"]);
    assert_eq!(plan.code, Some(0), "{}", plan.stderr);
    let target = device.target();
    let requests: Vec<Vec<&str>> = plan
        .stdout
        .lines()
        .take_while(|line| !line.is_empty())
        .skip(1)
        .map(|line| line.split_whitespace().skip(1).collect())
        .collect();
    assert_eq!(
        requests,
        [
            vec!["1s", "3", "holding", "registers", "40001-40100", "100", "100", "0"],
            vec!["1s", "3", "holding", "registers", "40102", "1", "1", "0"],
            vec!["1s", "3", "holding", "registers", "40300", "1", "1", "0"],
            vec!["1s", "3", "coils", "1-20", "20", "20", "0"],
        ]
    );
    let verdict = format!("{target}: 4 requests, assumed 200ms, at worst 700ms, each 1s: fits");
    assert!(plan.stdout.lines().any(|line| line == verdict), "{}", plan.stdout);
    assert_eq!(device.connections(), 0, "a plan needs no network");

    let slow = asked(&home, &["plan", "--response", "300ms"]).stdout;
    assert!(slow.contains("assumed 1s 200ms, at worst 1s 700ms, each 1s: DOES NOT FIT"), "{slow}");
    assert!(slow.contains("lengthen polling_interval of meters"), "{slow}");

    let measured = asked(&home, &["plan", "--measure", "--format", "json"]);
    let measured: Value = serde_json::from_str(&measured.stdout).unwrap();
    assert_eq!(measured["devices"][0]["measured"], true);
    assert_eq!(measured["requests"].as_array().unwrap().len(), 4);
    assert_eq!(device.request_count(), 8, "one poll to connect, one to measure");
    device.stop();
    let assumed = asked(&home, &["plan", "--measure"]);
    assert!(assumed.stdout.contains("4 requests, assumed 200ms"), "{}", assumed.stdout);
    assert_eq!(assumed.stderr, format!("{target}: does not answer, so that its time is assumed\n"));
}

/// A17: a value and its scale register in one request; where they do not fit, the plan has what it costs.
#[test]
fn plan_tells_what_scale_registers_cost() {
    let (device, server) = (Device::counting(1), Server::start());
    let model_160 = "{address: 40275, type: uint16, scale_register: 40256}";
    let far = "{address: 40412-40413, type: uint16, scale_register: 40256}, {address: 40414, type: uint16, scale_register: 40257}";
    let home = home(&device, &server, &format!("    holding_registers: [{model_160}]\n"));
    let rows = |stdout: &str| -> Vec<String> {
        let rows = stdout.lines().take_while(|line| !line.is_empty()).skip(1);
        rows.map(|line| line.split_whitespace().skip(5).collect::<Vec<_>>().join(" ")).collect()
    };
    let near = asked(&home, &["plan"]);
    assert_eq!(rows(&near.stdout), ["40256-40275 20 1 18"], "{}", near.stdout);
    write(&home, &device, &format!("    holding_registers: [{model_160}, {far}]\n"));
    let plan = asked(&home, &["plan"]);
    assert_eq!(
        rows(&plan.stdout),
        ["40256-40275 20 1 17", "40412-40414 3 3 0", "40256-40257 again 2 0 0"],
        "{}",
        plan.stdout
    );
    let verdict = format!("{}: 3 requests, assumed 150ms, at worst 650ms, each 1s: fits", device.target());
    assert!(plan.stdout.lines().any(|line| line == verdict), "{}", plan.stdout);
    let json: Value = serde_json::from_str(&asked(&home, &["plan", "--format", "json"]).stdout).unwrap();
    let again: Vec<_> =
        json["requests"].as_array().unwrap().iter().map(|request| request["again"].as_bool().unwrap()).collect();
    assert_eq!((again, &json["devices"][0]["requests"]), (vec![false, false, true], &Value::from(3)));
    let check = asked(&home, &["check"]);
    assert!(check.stdout.ends_with("4 points, each of them read once by 3 requests.\n"), "{}", check.stdout);
    let doubt = "warning: ";
    let told: Vec<_> = check.stderr.lines().filter(|line| line.starts_with(doubt)).collect();
    assert!(
        told.len() == 1 && told[0].contains("found 3 values too far from scale_register to be read at once"),
        "{told:#?}"
    );
    assert!(told[0].contains("which costs one more request"), "{told:#?}");
}

#[test]
fn once_shows_each_value_or_why_there_is_none_and_posts_nothing() {
    let device = holding(&[(0, 0x4048), (1, 0xF5C3), (2, 0x8000), (3, 7)]);
    device.refuse(Table::Holding, 5);
    let server = Server::start();
    let group = "    holding_registers: [{address: 40001, type: float32}, {address: 40003, type: int16, unavailable: 0x8000}, \
                 40004, 40005, 40006]\n";
    let home = home(&device, &server, group);
    let table = asked(&home, &["once"]);
    assert_eq!(table.code, Some(0), "{}", table.stderr);
    let at = |number: u32| {
        let key = format!("holding_register_{number}");
        let line = table.stdout.lines().find(|line| line.contains(&format!("{key} ")));
        line.unwrap_or_else(|| panic!("no {key} in:\n{}", table.stdout)).split_whitespace().skip(3).collect::<Vec<_>>()
    };
    assert_eq!(at(40_001)[..3], ["4048", "f5c3", "3.140000104904175"]);
    assert_eq!(at(40_003)[0], "8000");
    assert_eq!(at(40_004)[..2], ["0007", "7"]);
    assert!(at(40_006).join(" ").contains("exception 2"), "{}", table.stdout);
    assert!(table.stdout.ends_with("\n3 points read, 2 without a value.\n"), "{}", table.stdout);
    assert!(server.database().rows().is_empty());

    let rows: Value = serde_json::from_str(&asked(&home, &["once", "--format", "json"]).stdout).unwrap();
    assert_eq!(rows[2]["value"], 7.0);
    assert_eq!(rows[2]["raw"], "0007");
    assert!(rows[1]["value"].is_null() && rows[1]["why"].is_string(), "{}", rows[1]);
    let csv = asked(&home, &["once", "--format", "csv"]).stdout;
    assert!(
        csv.starts_with("device,unit,point,raw,value,time,why,name,device_name,unit_of_measurement,text\n"),
        "{csv}"
    );

    assert_eq!(asked(&home, &["once", "--strict"]).code, Some(3));
    let unknown = asked(&home, &["once", "--device", "nowhere"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""), "{}", unknown.stderr);
    write(&home, &device, "    holding_registers: [40004]\n");
    assert_eq!(asked(&home, &["once", "--strict", "--group", "meters"]).code, Some(0));
    device.set(Mode::Silent);
    let silent = asked(&home, &["once", "--strict"]);
    assert_eq!(silent.code, Some(3));
    assert!(silent.stdout.contains("no whole reply within 500ms"), "{}", silent.stdout);
    device.stop();
    let gone = asked(&home, &["once"]);
    assert_eq!(gone.code, Some(0));
    assert!(gone.stdout.to_lowercase().contains("connection refused"), "{}", gone.stdout);
    assert_eq!(device.violations(), [""; 0]);
}

#[test]
fn once_and_check_show_names_units_tags_and_texts() {
    let device = holding(&[(0, 215), (1, 1), (2, 7)]);
    let server = Server::start();
    let flow = "{address: 40001, name: flow, multiplier: 0.1, unit_of_measurement: °C, tags: {pipe: supply}}";
    let mode = "{address: 40002, name: mode, values: {0: off, 1: heating}}";
    let home =
        home(&device, &server, &format!("    tags: {{hall: 3}}\n    holding_registers: [{flow}, {mode}, 40003]\n"));
    let file = home.config_dir().join("pattoo_agent_modbustcpd.yaml");
    let devices = format!("devices: {{'{}': {{name: boiler, tags: {{site: plant 7}}}}}}\n", device.target());
    fs::write(&file, devices + &fs::read_to_string(&file).unwrap()).unwrap();

    let check = asked(&home, &["check"]);
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>().join(" ");
    let told: Vec<_> = check.stdout.lines().map(words).collect();
    let rows = [
        &format!("{} boiler site=plant 7", device.target()),
        "meters holding_register_40001 flow °C hall=3, pipe=supply",
        "meters holding_register_40002 mode hall=3 0=off, 1=heating",
        "meters holding_register_40003 hall=3",
    ];
    for row in rows {
        assert!(told.iter().any(|line| line == row), "{row}: {}", check.stdout);
    }
    let table = asked(&home, &["once", "--device", "boiler"]).stdout;
    for cell in [
        &format!("boiler ({})  ", device.target()),
        "flow (holding_register_40001)  ",
        "  21.5 °C\n",
        "  heating (1)\n",
    ] {
        assert!(table.contains(cell), "{cell}: {table}");
    }
    let json: Value = serde_json::from_str(&asked(&home, &["once", "--format", "json"]).stdout).unwrap();
    let labels =
        |row: &Value| ["point", "name", "device_name", "unit_of_measurement", "text"].map(|key| row[key].clone());
    let rows: Vec<_> = json.as_array().unwrap().iter().map(labels).collect();
    let text = |row: [Option<&str>; 5]| row.map(|cell| cell.map_or(Value::Null, Value::from));
    let boiler = Some("boiler");
    let expected = [
        [Some("holding_register_40001"), Some("flow"), boiler, Some("°C"), None],
        [Some("holding_register_40002"), Some("mode"), boiler, None, Some("heating")],
        [Some("holding_register_40003"), None, boiler, None, None],
    ];
    for row in expected.map(text) {
        assert!(rows.contains(&row), "{rows:?}");
    }
    let tags = &json.as_array().unwrap().iter().find(|row| row["name"] == "flow").unwrap()["tags"];
    assert_eq!(*tags, serde_json::json!({"hall": "3", "pipe": "supply", "site": "plant 7"}));
    assert_eq!(device.violations(), [""; 0]);
}

#[test]
fn translations_are_what_pattoo_imports() {
    let (device, server) = (holding(&[]), Server::start());
    let group = "    holding_registers: [{address: 40001, name: '1, \"2\"', unit_of_measurement: °C}, {address: 40002, name: none}, 40003]\n  \
                 - {group_name: others, ip_devices: [192.0.2.9], unit: 3, holding_registers: {40001: flow, 40002: none}}\n";
    let home = home(&device, &server, group);
    let head = "language,key,translation,units\n";
    let row = |number: u32, rest: &str| format!("en,pattoo_agent_modbustcpd_holding_register_{number},{rest}\n");
    let of_all = asked(&home, &["translations"]);
    assert_eq!((of_all.code, of_all.stdout), (Some(0), format!("{head}{}", row(40_002, " none, "))));
    let told = of_all.stderr;
    assert!(
        told.contains(
            "warning: 1 key with more than one name or unit of measurement left out: holding_register_40001 ("
        )
    );

    let file = home.path().join("names.csv");
    let to = ["translations", "--group", "meters", "--to", file.to_str().unwrap()];
    let written = asked(&home, &to);
    assert_eq!((written.code, written.stdout.as_str()), (Some(0), ""), "{}", written.stderr);
    let expected = format!("{head}{}{}", row(40_001, "\"1, \"\"2\"\"\",°C"), row(40_002, " none, "));
    assert_eq!(fs::read_to_string(&file).unwrap(), expected);
    let other = asked(&home, &["translations", "--device", "192.0.2.9", "--language", "de"]);
    assert!(other.stdout.contains("\nde,pattoo_agent_modbustcpd_holding_register_40001,flow, \n"), "{}", other.stdout);
    let upper = asked(&home, &["translations", "--device", "192.0.2.9", "--language", "pt-BR"]);
    assert!(
        upper.stdout.contains("\npt-br,pattoo_agent_modbustcpd_holding_register_40001,flow, \n"),
        "{}",
        upper.stdout
    );
    for none in ["", "1", "d e", "en,de"] {
        let refused = asked(&home, &["translations", "--language", none]);
        assert!(
            refused.code == Some(2) && refused.stderr.contains("the code of a language, such as en"),
            "{refused:?}"
        );
    }
    assert_eq!(asked(&home, &["translations", "--group", "nobody"]).code, Some(2));
    assert_eq!(asked(&home, &["translations", "--to", "/nowhere/names.csv"]).code, Some(1));
    write(&home, &device, "    holding_registers: [40001]\n");
    let none = asked(&home, &["translations"]);
    assert_eq!((none.stdout.as_str(), none.stderr.contains("no register has a name")), (head, true));
}

#[test]
fn a_probe_decodes_a_range_in_every_way_and_gives_the_lines_to_paste() {
    let device = holding(&[(0, 0xF5C3), (1, 0x4048), (2, 0x0000), (3, 0x42F6), (4, 0x4142), (5, 0x8000)]);
    device.refuse(Table::Holding, 7);
    let (target, server) = (device.target(), Server::start());
    let home = Home::new(server.address());
    let probe = home.output(&["probe", &target, "40001", "8", "--unit", "9"]);
    assert_eq!(probe.code, Some(0), "{}", probe.stderr);
    let first = row(&probe.stdout, "40001");
    assert_eq!(first[1..4], ["f5c3", "62915", "-2621"]);
    assert!(row(&probe.stdout, "40005").contains(&"AB"), "{}", probe.stdout);
    assert!(probe.stdout.lines().any(|line| line.starts_with("40006") && line.contains("no value, if int16")));
    assert_eq!(row(&probe.stdout, "40008")[1], "refused");
    let float = probe.stdout.lines().find(|line| line.starts_with("40001") && line.contains("float32")).unwrap();
    assert_eq!(float.split_whitespace().nth(3), Some("3.140000104904175"), "CDAB: {float}");
    let paste = "polling_groups:\n  - ip_devices: [\"";
    let lines = &probe.stdout[probe.stdout.find(paste).unwrap()..];
    assert!(lines.contains("holding_registers: [40001-40007]"), "{lines}");
    // What is to be pasted is a configuration.
    home.write_config(lines);
    assert_eq!(asked(&home, &["once", "--strict"]).code, Some(0));

    let floats = home.output(&["probe", &target, "40001", "4"]).stdout;
    assert!(floats.contains("holding_registers: [{address: 40001, type: float32, order: CDAB, count: 2}]"), "{floats}");
    let end = home.output(&["probe", &target, "465536", "3"]).stdout;
    assert!(end.contains("\n465536  ") && !end.contains("465537"), "{end}");
    assert_eq!(home.output(&["probe", &target, "99999"]).code, Some(2));
    device.stop();
    let gone = home.output(&["probe", &target, "40001"]);
    assert_eq!((gone.code, gone.stdout.as_str()), (Some(1), ""));
    let units = home.output(&["probe", &target, "--units"]);
    assert_eq!((units.code, units.stdout.as_str(), units.stderr.lines().count()), (Some(1), "", 1), "{}", units.stderr);
    assert!(gone.stderr.to_lowercase().contains("connection refused"), "{}", gone.stderr);
    assert_eq!(device.violations(), [""; 0], "it only ever reads");
}

#[test]
fn a_search_finds_the_units_that_answer_and_what_can_be_read() {
    let device = Device::counting(4);
    device.set(Mode::Exception(11));
    for unit in [1, 17] {
        device.set_unit(unit, Mode::Answer);
    }
    let (target, server) = (device.target(), Server::start());
    let home = Home::new(server.address());
    let units = home.output(&["probe", &target, "30001", "--units", "--timeout", "200ms"]);
    assert_eq!(units.code, Some(0), "{}", units.stderr);
    assert!(row(&units.stdout, "1")[1].parse::<u16>().is_ok(), "{}", units.stdout);
    assert!(row(&units.stdout, "17")[1].parse::<u16>().is_ok(), "{}", units.stdout);
    assert!(row(&units.stdout, "18")[1..].join(" ").contains("exception 11"), "{}", units.stdout);

    device.set(Mode::Answer);
    for address in 300..=u16::MAX {
        device.refuse(Table::Holding, address);
    }
    for address in (0..=u16::MAX).filter(|address| !(100..=249).contains(address)) {
        device.refuse(Table::Input, address);
    }
    let scan = home.output(&["probe", &target, "--scan"]);
    assert_eq!(scan.code, Some(0), "{}", scan.stderr);
    let cells: Vec<Vec<&str>> = scan.stdout.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(
        cells,
        [["input", "registers", "30101-30250", "150"], ["holding", "registers", "40001-40300", "300"]],
        "{}",
        scan.stdout
    );
    assert_eq!(device.violations(), [""; 0]);
}

#[test]
fn a_sunspec_device_is_walked_into_a_group_that_reads_it() {
    // Model 1 with 66 registers, model 103 with 50, the end; power 1,234 W as 12340 and a power of ten of -1.
    let mut words = vec![(40_000, 0x5375), (40_001, 0x6E53), (40_002, 1), (40_003, 66), (40_070, 103), (40_071, 50)];
    words.extend([(40_084, 12_340), (40_085, 0xFFFF), (40_122, 0xFFFF), (40_123, 0)]);
    words.extend(
        (40_072..40_122).filter(|address| !(40_084..=40_085).contains(address)).map(|address| (address, 0x8000)),
    );
    let device = holding(&words);
    let (target, server) = (device.target(), Server::start());
    let home = Home::new(server.address());
    let walk = home.output(&["probe", &target, "--sunspec", "--unit", "126"]);
    assert_eq!(walk.code, Some(0), "{}", walk.stderr);
    assert_eq!(row(&walk.stdout, "1")[1], "common");
    assert_eq!(row(&walk.stdout, "103")[1..3], ["inverter,", "three"]);
    let groups = &walk.stdout[walk.stdout.find("polling_groups:").unwrap()..];
    home.write_config(groups);
    let rows: Value = serde_json::from_str(&asked(&home, &["once", "--format", "json"]).stdout).unwrap();
    let power = rows.as_array().unwrap().iter().find(|row| row["point"] == "holding_register_440085").unwrap();
    assert_eq!(power["value"], 1_234.0, "{rows}");
    let current = rows.as_array().unwrap().iter().find(|row| row["point"] == "holding_register_440073").unwrap();
    assert!(current["value"].is_null(), "a scale that is no value gives none: {current}");

    let plain = Device::counting(1);
    let none = home.output(&["probe", &plain.target(), "--sunspec"]);
    assert_eq!(none.code, Some(1));
    assert!(none.stderr.contains("no SunSpec marker"), "{}", none.stderr);
}

#[test]
fn check_doubts_what_is_probably_not_meant_and_fails_for_it_only_when_told() {
    let (device, server) = (Device::counting(1), Server::start());
    let home = Home::new(server.address());
    let doubtful = |groups: &str, said: &[&str]| {
        home.write_config(&format!("polling_interval: 1s\nagent_hostname: gateway\npolling_groups:\n{groups}"));
        let check = asked(&home, &["check"]);
        assert_eq!(check.code, Some(0), "{}", check.stderr);
        for words in said {
            assert!(check.stderr.contains(words), "no {words:?} in:\n{}", check.stderr);
        }
        let strict = asked(&home, &["check", "--strict"]);
        assert_eq!(strict.code, Some(if said.is_empty() { 0 } else { 78 }), "{}", strict.stderr);
        let warnings = check.stderr.lines().filter(|line| line.starts_with("warning: ")).count();
        assert_eq!(warnings, said.len(), "{}", check.stderr);
    };
    let group = |rest: &str| format!("  - ip_devices: [gw]\n{rest}");
    doubtful(&group("    holding_registers: [40001, 40002]\n"), &[]);
    doubtful(
        &group("    holding_registers: [0, 40001]\n"),
        &["if 0 is the address itself, counted from 0, it is written 40001"],
    );
    doubtful(
        &group("    holding_registers: [{address: 40001, type: float32}, 40002]\n"),
        &[
            "found holding_register_40002 (uint16), which shares registers with holding_register_40001 (float32) at 5:35",
        ],
    );
    doubtful(&group("    holding_registers: [{address: 40001, bit: 3}, {address: 40001, bits: 4..7}]\n"), &[]);
    let two = "  - ip_devices: [gw]\n    holding_registers: [40001]\n  - ip_devices: ['gw:502']\n    holding_registers: [40001]\n";
    doubtful(two, &["found \"gw:502\", which is the device \"gw\" under another name"]);
    let gateway = "  - ip_devices: [gw]\n    holding_registers: [40001]\n  - ip_devices: [gw]\n    unit: 5\n    holding_registers: [40001]\n";
    doubtful(gateway, &["found \"gw\" with unit 0 in group"]);
    let often = group("    polling_interval: 100ms\n    holding_registers: [40001, 40201, 40401]\n");
    doubtful(&often, &["gw: 3 requests, assumed 150ms, at worst 3s 100ms, each 100ms: DOES NOT FIT"]);
    assert_eq!(device.connections(), 0);
}
