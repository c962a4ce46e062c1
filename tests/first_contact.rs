//! What somebody meets who comes from another collector, or for the first time: faults with their lines, words that lead on, a
//! terminal of 80 columns, and what shells, manuals, editors and scripts are given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::pty::{self, OpenptFlags};
use rustix::termios::{self, Winsize};
use serde_json::Value;
use support::agent::{Finished, Home};

const BINARY: &str = env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd");

fn home() -> Home {
    // Nothing listens there.
    Home::new("127.0.0.1:9".parse().unwrap())
}

fn asked(home: &Home, arguments: &[&str]) -> Finished {
    let directory = home.config_dir();
    home.output(&[arguments, &["--config_dir", directory.to_str().unwrap()]].concat())
}

/// What the binary shows on a terminal of this width.
fn on_a_terminal(arguments: &[&str], columns: u16, variables: &[(&str, &str)]) -> String {
    let ours = pty::openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
    pty::grantpt(&ours).unwrap();
    pty::unlockpt(&ours).unwrap();
    let size = Winsize { ws_row: 24, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    termios::tcsetwinsize(&ours, size).unwrap();
    let name = pty::ptsname(&ours, Vec::new()).unwrap().into_string().unwrap();
    let theirs: OwnedFd = File::options().read(true).write(true).open(name).unwrap().into();
    let (out, err) = (theirs.try_clone().unwrap(), theirs.try_clone().unwrap());
    let mut child = Command::new(BINARY)
        .args(arguments)
        // Where builds are watched, colours are taken to be wanted.
        .env_remove("CI")
        .env_remove("NO_COLOR")
        .env("TERM", "xterm")
        .envs(variables.iter().copied())
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::from(out))
        .stderr(Stdio::from(err))
        .spawn()
        .unwrap();
    // Reading ends with an error when the last one that has the other side closes it.
    let mut shown = Vec::new();
    let _ = File::from(ours).read_to_end(&mut shown);
    child.wait().unwrap();
    String::from_utf8(shown).unwrap().replace("\r\n", "\n")
}

/// Without colours.
fn plain(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, colour)) = rest.split_once('\u{1b}') {
        plain.push_str(before);
        rest = colour.split_once('m').unwrap().1;
    }
    plain += rest;
    // What was shown meanwhile, and is written over.
    let last = |line: &str| line.rsplit('\r').next().unwrap().to_owned();
    plain.split('\n').map(last).collect::<Vec<_>>().join("\n")
}

/// E2: what other collectors call it leads to what it is called here, with the line of the file.
#[test]
fn words_of_other_collectors_lead_to_the_right_keys() {
    let home = home();
    home.write_config(
        "interval: 10\nlog_format: text\ntimeout: 1s\npolling_groups:\n  - name: a\n    hosts: [192.0.2.1]\n    slave: 3\n    port: 502\n    \
         holding_registers:\n      - {address: 40001, type: float, scale: 0.1, byte_order: big}\n      - {address: 40003, order: little}\n",
    );
    let Finished { code, stderr, .. } = asked(&home, &["check"]);
    assert_eq!(code, Some(78));
    for (place, meant) in [
        ("1:1: interval:", "polling_interval"),
        ("3:1: timeout:", "response_timeout"),
        ("polling_groups[0].name:", "group_name"),
        ("polling_groups[0].hosts:", "ip_devices"),
        ("polling_groups[0].slave:", "\"unit\""),
        ("polling_groups[0].port:", "ip_devices"),
        ("[0].type:", "float32"),
        ("[0].scale:", "multiplier"),
        ("[0].byte_order:", "\"order\""),
        ("[1].order:", "DCBA"),
    ] {
        let told = stderr.lines().find(|line| line.contains(place));
        assert!(told.is_some_and(|told| told.contains(meant)), "{place} {meant}: {stderr}");
    }
    let scale: Vec<&str> = stderr.lines().skip_while(|line| !line.contains("[0].scale:")).collect();
    let column = scale[1].find("scale").unwrap();
    assert_eq!(
        (scale[2].trim(), scale[2].find('^')),
        ("|                                   ^", Some(column)),
        "{stderr}"
    );
}

/// E1, E3, E4: what means something else than it seems to is told, beside what is wrong for it.
#[test]
fn nothing_silently_means_something_else() {
    let home = home();
    let told = |group: &str, words: &[&str]| {
        // With a key of ours, so that the file is not taken as the Python agent took it.
        home.write_config(&format!("log_format: text\npolling_groups:\n  - ip_devices: [192.0.2.1]\n{group}"));
        let Finished { stderr, stdout, .. } = asked(&home, &["check"]);
        for word in words {
            assert!((stderr.clone() + &stdout).contains(word), "{word}: {stderr}{stdout}");
        }
    };
    told("    holding_registers: [0x1000]\n", &["nothing to poll", "found 4096", "it is written 44097"]);
    told("    holding_registers: [30775]\n", &["of the input registers", "if 30775 is the address itself", "430776"]);
    told("    holding_registers: [0-9]\n", &["if 0 is the address itself", "40001"]);
    told("    unit: 010\n    coils: [00010]\n", &["found 010, which is octal and means 8", "or 10 if that is meant"]);
    home.write_config(
        "polling_groups:\n  - ip_devices: [192.0.2.1]\n    unit: 7\n    tags: {hall: 007}\n    coils: [00010, {address: 1, name: 011}]\n",
    );
    let check = asked(&home, &["check", "--strict"]);
    assert_eq!(check.code, Some(0), "texts and coils are taken as they stand: {}", check.stderr);
    told("    unit: 1:30\n    coils: [1]\n", &["base 60 and means 90"]);
    told("    unit: meter\n    coils: [1]\n", &["found \"meter\"; allowed is a whole number"]);
    told("    unit: 1.5\n    coils: [1]\n", &["found 1.5; allowed is a whole number"]);
    told("    unit: []\n    coils: [1]\n", &["found a list; allowed is"]);
    told("    unit: [1, 256]\n    coils: [1]\n", &["found 256; allowed is"]);
    told(
        "    holding_registers: [{address: 40001, multiplier: 1/8}]\n",
        &["found \"1/8\"; allowed", "did you mean 0.125?"],
    );
    told("    holding_registers: [{address: 40001, multiplier: '0,1'}]\n", &["did you mean 0.1?"]);
    told(
        "    unit: 1\n    coils: [{address: 1, name: '${NAME}'}]\n",
        &["found \"${NAME}\"; no variable is filled in here"],
    );
    home.write_config(
        "log_format: text\npolling_groups:\n  - ip_devices: [{host: 192.0.2.1, port: 1502}]\n    coils: [1]\n",
    );
    let stderr = asked(&home, &["check"]).stderr;
    assert!(stderr.contains("found a mapping; allowed is a text, \"192.0.2.1:1502\""), "{stderr}");
    home.write_config("polling_groups:\n  - ip_devices: [localhost, '127.0.0.1']\n    coils: [1]\n");
    let stderr = asked(&home, &["check"]).stderr;
    assert!(stderr.contains("found \"127.0.0.1\", which is this machine, as is \"localhost\""), "{stderr}");
    for (host, meant) in [
        ("192.0.2.010", "this system takes for 192.0.2.8; write 192.0.2.8, or 192.0.2.10 if that is meant"),
        ("192.0.2.010:1502", "this system takes for 192.0.2.8;"),
        (
            "192.000.002.009",
            "which is no address and is looked up as a name; write four numbers from 0 to 255, or 192.0.2.9 if",
        ),
        ("192.0.2", "this system takes for 192.0.0.2; write 192.0.0.2; another text begins its charts anew"),
        ("3221226000", "this system takes for 192.0.2.16;"),
        ("300.0.2.1", "which is no address and is looked up as a name; write four numbers from 0 to 255; another"),
        ("1.2.3.4.5", "which is no address"),
    ] {
        home.write_config(&format!(
            "polling_groups:\n  - ip_devices: ['{host}', '192.0.02.7', meter1]\n    coils: [1]\n"
        ));
        let stderr = asked(&home, &["check"]).stderr;
        assert!(stderr.contains(&format!("found \"{host}\", which")) && stderr.contains(meant), "{host}: {stderr}");
        assert_eq!(stderr.matches("warning: ").count(), 1, "{stderr}");
    }
}

/// E3: each of a list of units is polled, in a file of the Python agent too.
#[test]
fn a_list_of_units_means_each() {
    let home = home();
    for (ours, unit, units) in [("log_format: text\n", "[1, 2, 5-7]", 5), ("", "[3, 3, 4]", 2), ("", "1-3", 3)] {
        home.write_config(&format!(
            "{ours}polling_groups:\n  - ip_devices: [192.0.2.1]\n    unit: {unit}\n    input_registers: [30001, 30002]\n"
        ));
        let Finished { code, stdout, stderr } = asked(&home, &["check"]);
        assert_eq!(code, Some(0), "{stderr}");
        assert!(stdout.contains(&format!("1 device, {} points", 2 * units)), "{stdout}");
        assert_eq!(stderr.contains("the Python agent took it for unit 0"), ours.is_empty(), "{stderr}");
    }
}

/// For programs: whatever is wrong, one object with places.
#[test]
fn check_tells_programs_what_it_tells_people() {
    let home = home();
    home.write_config(
        "interval: 5\npolling_groups:\n  - ip_devices: [192.0.2.1]\n    type: int16\n    input_registers: [1]\n",
    );
    let Finished { code, stdout, stderr } = asked(&home, &["check", "--format", "json"]);
    assert_eq!((code, &*stderr), (Some(78), ""));
    let checked: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((&checked["version"], &checked["ok"]), (&1.into(), &false.into()));
    let fault = &checked["faults"][0];
    assert_eq!((&fault["line"], &fault["column"], &fault["key"]), (&1.into(), &1.into(), &"interval".into()));
    assert!(fault["file"].as_str().unwrap().ends_with("pattoo_agent_modbustcpd.yaml"), "{fault}");
    assert!(fault["message"].as_str().unwrap().contains("polling_interval"), "{fault}");
    assert!(checked["warnings"].as_array().unwrap().iter().any(|warning| warning["line"] == 5), "{checked}");
    home.write_groups("10", "  - ip_devices: [192.0.2.1]\n    input_registers: [30001, 30002]\n");
    let Finished { code, stdout, .. } = asked(&home, &["check", "--format", "json"]);
    let checked: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &checked["ok"], &checked["points"]), (Some(0), &true.into(), &2.into()));
    assert_eq!((&checked["devices"], &checked["requests"]), (&1.into(), &1.into()));
}

/// E16: what is alike is told once, unless all is asked for.
#[test]
fn many_devices_that_are_alike_are_one_row() {
    let home = home();
    let devices: Vec<String> = (0..2_000).map(|it| format!("      - 198.51.{}.{}\n", it / 250, it % 250)).collect();
    let devices = devices.concat();
    home.write_groups("60", &format!("  - unit: 1\n    ip_devices:\n{devices}    holding_registers: [40001-40050]\n"));
    for command in ["check", "plan"] {
        let short = asked(&home, &[command]).stdout;
        assert!(short.lines().count() < 20, "{short}");
        assert!(short.contains("198.51.0.0 and 1999 more"), "{short}");
        let all = asked(&home, &[command, "--all"]).stdout;
        assert!(all.contains("198.51.7.249  ") && !all.contains("more"), "{}", all.lines().count());
    }
}

/// E11: nothing is wider than the terminal, and nothing is missing there.
#[test]
fn eighty_columns_are_enough() {
    let home = home();
    home.write_config(
        "polling_interval: 1s\nagent_hostname: gateway\noutputs: [pattoo, {type: mqtt, url: 'mqtt://broker.example.net'}]\n\
         devices:\n  192.0.2.20:1502: {name: boiler of the third hall, tags: {hall: 3, site: plant-7}}\npolling_groups:\n  \
         - group_name: the meters of the third hall\n    ip_devices: ['192.0.2.20:1502', a-long-name-of-a-meter.plant-7.example.net]\n    \
         tags: {line: north}\n    holding_registers:\n      - {address: 40001, name: temperature of the flow, multiplier: 0.1, \
         unit_of_measurement: °C, tags: {pipe: supply}}\n      - {address: 40002, name: mode, values: {0: off, 1: heating, 2: hot water}}\n      \
         - 40004\n      - 1\n",
    );
    let directory = home.config_dir();
    let directory = directory.to_str().unwrap();
    for arguments in [
        &["check"][..],
        &["check", "--all"],
        &["check", "--settings"],
        &["plan"],
        &["check", "--against", directory],
        &["--status"],
        &["status"],
        &["spool", "show"],
        &["once"],
    ] {
        let arguments = [arguments, &["--config_dir", directory]].concat();
        let shown = plain(&on_a_terminal(&arguments, 80, &[]));
        let wide = shown.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{arguments:?}\n{shown}");
        assert!(!shown.is_empty(), "{arguments:?}");
    }
    for command in support::COMMANDS
        .iter()
        .map(|command| vec![*command, "--help"])
        .chain([vec!["--help"], vec!["spool", "export", "--help"]])
    {
        let shown = plain(&on_a_terminal(&command, 80, &[]));
        let wide = shown.lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{command:?}\n{shown}");
    }
    // In a pipe a message is one line.
    let piped = asked(&home, &["check"]);
    assert!(piped.stderr.lines().any(|line| line.chars().count() > 100 && line.contains("found 1, which is left out")));
    assert!(!piped.stderr.contains('\u{1b}') && !piped.stdout.contains('\u{1b}'));
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let home = home();
    home.write_groups("10", "  - ip_devices: [192.0.2.1]\n    input_registers: [30001, 1]\n");
    let directory = home.config_dir();
    let arguments = ["check", "--config_dir", directory.to_str().unwrap()];
    assert!(on_a_terminal(&arguments, 80, &[]).contains("\u{1b}[33mwarning:"));
    for variable in [("NO_COLOR", "1"), ("TERM", "dumb")] {
        assert!(!on_a_terminal(&arguments, 80, &[variable]).contains('\u{1b}'), "{variable:?}");
    }
}

/// E15: what is not there must not be taken for all of it.
#[test]
fn a_disk_that_is_full_is_a_failure_and_a_reader_that_has_gone_is_none() {
    let home = home();
    home.write_groups("10", "  - ip_devices: ['127.0.0.1:1']\n    input_registers: [30001]\n");
    let directory = home.config_dir();
    for arguments in [&["check"][..], &["once", "--format", "csv"], &["schema"]] {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--config_dir").arg(&directory).stdout(full).stderr(Stdio::piped());
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("No space left"), "{arguments:?}");
    }
}

/// E6: a directory without configuration leads on.
#[test]
fn where_nothing_is_configured_it_leads_to_configure() {
    let home = home();
    fs::remove_file(home.config_dir().join("pattoo.yaml")).unwrap();
    for command in ["run", "check", "plan", "once", "start"] {
        let Finished { code, stderr, .. } = asked(&home, &[command]);
        assert_eq!(code, Some(78), "{command}");
        assert!(stderr.contains("pattoo_agent_modbustcpd configure --config_dir "), "{command}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{command}: {stderr}");
    }
}

/// E14, as somebody who is not root: root may read everything.
#[test]
fn a_fault_of_the_file_that_says_where_the_agent_runs_is_told_once() {
    let home = home();
    fs::write(home.config_dir().join("pattoo.yaml"), "pattoo: [1\n").unwrap();
    for arguments in [&["--status"][..], &["--stop"], &["check"]] {
        let Finished { code, stderr, .. } = asked(&home, arguments);
        assert_eq!((code, stderr.matches("this is not YAML").count()), (Some(78), 1), "{arguments:?}: {stderr}");
    }
    fs::remove_file(home.config_dir().join("pattoo.yaml")).unwrap();
    let Finished { code, stderr, .. } = asked(&home, &["--status"]);
    assert_eq!((code, stderr.matches("there is no such file").count()), (Some(78), 1), "{stderr}");
}

#[test]
fn what_may_not_be_read_exits_77() {
    let home = home();
    home.write_groups("10", "  - ip_devices: [192.0.2.1]\n    input_registers: [30001]\n");
    let directory = home.config_dir();
    let file = directory.join("pattoo_agent_modbustcpd.yaml");
    for (path, mode) in
        [(home.path(), 0o755), (&directory, 0o755), (&directory.join("pattoo.yaml"), 0o644), (&file, 0o000)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for command in ["run", "check", "plan", "once", "start", "restart"] {
        let mut asked = Command::new(BINARY);
        asked.args([command, "--config_dir"]).arg(&directory).current_dir("/");
        if rustix::process::geteuid().is_root() {
            asked.uid(65_534).gid(65_534);
        }
        // Where the build directory is root's alone, nobody else can run what is in it.
        let Ok(output) = asked.output() else { return };
        assert_eq!(output.status.code(), Some(77), "{command}: {output:?}");
    }
}

/// The long options that a help lists.
fn flags(help: &str) -> BTreeSet<String> {
    let lines = help.lines().filter(|line| line.trim_start().starts_with('-'));
    let word = |rest: &str| rest.chars().take_while(|it| it.is_ascii_alphanumeric() || "-_".contains(*it)).collect();
    lines.filter_map(|line| Some(word(line.split_once("--")?.1))).collect()
}

/// Manual pages and completions are made of the command line, and lack nothing that help has.
#[test]
fn manuals_and_completions_have_every_option() {
    let home = home();
    let manuals = home.path().join("man");
    assert_eq!(asked(&home, &["manual", "--to", manuals.to_str().unwrap()]).code, Some(0));
    let shells: Vec<String> = ["bash", "zsh", "fish"]
        .map(|shell| {
            let Finished { code, stdout, .. } = home.output(&["completions", shell]);
            assert_eq!(code, Some(0));
            stdout
        })
        .into();
    let mut options = 0;
    for command in [""].iter().chain(&support::COMMANDS) {
        let help = if command.is_empty() { home.output(&["--help"]) } else { home.output(&[command, "--help"]) };
        assert_eq!(help.code, Some(0), "{command}");
        let page = if command.is_empty() { String::new() } else { format!("-{command}") };
        let page = fs::read_to_string(manuals.join(format!("pattoo_agent_modbustcpd{page}.1"))).unwrap();
        let page = page.replace("\\-", "-");
        for flag in flags(&help.stdout) {
            assert!(page.contains(&format!("--{flag}")), "{command}: --{flag} is not in its manual page");
            for shell in &shells {
                assert!(shell.contains(&flag), "{command}: --{flag} is not completed");
            }
            options += 1;
        }
    }
    assert!(options > 60, "{options} options");
    let all: Vec<_> = fs::read_dir(&manuals).unwrap().collect();
    assert!(all.len() > support::COMMANDS.len(), "{} pages", all.len());
}

/// The commands are the flags, and the flags are the original's.
#[test]
fn commands_do_what_the_flags_do() {
    let home = home();
    home.write_groups("10", "  - ip_devices: ['127.0.0.1:1']\n    input_registers: [30001]\n");
    for (flag, command) in [("--status", "status"), ("--stop", "stop")] {
        let (by_flag, by_command) = (asked(&home, &[flag]), asked(&home, &[command]));
        assert_eq!((by_flag.code, by_flag.stdout), (by_command.code, by_command.stdout), "{command}");
    }
    assert_eq!(asked(&home, &["--status", "status"]).code, Some(2));
    let json = asked(&home, &["status", "--format", "json"]);
    assert_eq!(serde_json::from_str::<Value>(&json.stdout).unwrap()["running"], false);
    // Whoever reads the first of them may go.
    let mut follow = Command::new(BINARY);
    follow
        .args(["status", "--follow", "--format", "json", "--config_dir"])
        .arg(home.config_dir())
        .stdout(Stdio::piped());
    let mut follow = follow.spawn().unwrap();
    let mut first = [0; 1];
    follow.stdout.take().unwrap().read_exact(&mut first).unwrap();
    assert_eq!(&first, b"{");
    assert!(follow.wait().unwrap().success());
}

/// The YAML blocks of a document that are whole configurations.
fn samples(text: &str) -> impl Iterator<Item = &str> {
    text.split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next())
        .filter(|it| it.contains("polling_groups:"))
}

/// As JSON: keys that are numbers are texts there.
fn json(yaml: serde_yaml::Value) -> Value {
    match yaml {
        serde_yaml::Value::Mapping(entries) => Value::Object(
            entries
                .into_iter()
                .map(|(key, value)| (json(key).to_string().trim_matches('"').to_owned(), json(value)))
                .collect(),
        ),
        serde_yaml::Value::Sequence(items) => items.into_iter().map(json).collect(),
        scalar => serde_json::to_value(scalar).unwrap(),
    }
}

/// Editors are told what the parser takes, by a validator that knows neither.
#[test]
fn the_schema_takes_every_sample_and_underlines_slips() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let printed = home().output(&["schema"]).stdout;
    let kept = fs::read_to_string(root.join("config/pattoo_agent_modbustcpd.schema.json")).unwrap();
    assert!(printed == kept, "run `pattoo_agent_modbustcpd schema > config/pattoo_agent_modbustcpd.schema.json`");
    let schema: Value = serde_json::from_str(&printed).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let sample = fs::read_to_string(root.join("config/pattoo_agent_modbustcpd.yaml")).unwrap();
    let pages = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let book: String = pages.filter_map(|page| fs::read_to_string(page).ok()).collect();
    let mut taken = 0;
    for text in [&*sample].into_iter().chain(samples(&book)) {
        let value = json(serde_yaml::from_str(text).unwrap());
        let wrong: Vec<String> =
            validator.iter_errors(&value).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{wrong:#?}\n{text}");
        taken += 1;
    }
    assert!(taken > 5, "{taken} samples");
    let group = |more: &str| format!("polling_groups:\n  - ip_devices: [192.0.2.1]\n    {more}\n");
    let right = [
        "unit: [1, 2, 5-7]",
        "input_registers: [30001, 30003-30010, {address: 30011, type: FLOAT32}]",
        "input_registers: {30001: x, 30002: y}",
        "holding_registers: [{address: 40001, bits: 4..7, values: {0: off}}]",
        "polling_interval: 1h 30m",
        "order: cdab",
        "coils: [1]",
    ];
    let wrong = [
        "slave: 1",
        "unit: 256",
        "type: float",
        "holding_registers: [{address: 40001, scale: 0.1}]",
        "coils: [{address: 1, type: int16}]",
        "order: little",
        "together: perhaps",
        "polling_interval: soon",
        "holding_registers: [{name: x}]",
    ];
    for (cases, is_right) in [(&right[..], true), (&wrong[..], false)] {
        for case in cases {
            let value = json(serde_yaml::from_str(&group(case)).unwrap());
            assert_eq!(validator.is_valid(&value), is_right, "{case}");
        }
    }
    for wrong in [
        "outputs: [nowhere]\n",
        "interval: 5\n",
        "outputs: [{type: file, url: 'http://x'}]\n",
        "devices: {x: {baudrate: 9600}}\n",
    ] {
        let value = json(serde_yaml::from_str(&(wrong.to_owned() + &group("unit: 1"))).unwrap());
        assert!(!validator.is_valid(&value), "{wrong}");
    }
}
