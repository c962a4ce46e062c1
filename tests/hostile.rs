//! What others put in the agent's way: files planted where root writes, names that a terminal obeys, configurations that
//! are never read to their end, files and directories that anybody may change. With the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::print_stderr, reason = "a skipped test says so")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::agent::{Finished, Home};
use support::device::Device;
use support::needs;
use support::server::Server;

/// Nobody in particular.
const OTHER: u32 = 65_534;

fn home() -> Home {
    Home::new("127.0.0.1:9".parse().unwrap())
}

fn mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn configure(home: &Home) -> Finished {
    home.output(&["configure", "--yes", "--config_dir", home.config_dir().to_str().unwrap()])
}

/// A `pattoo.yaml` to which `configure` has something to add.
fn unfinished(home: &Home) -> PathBuf {
    let shared = home.config_dir().join("pattoo.yaml");
    let text = fs::read_to_string(&shared).unwrap();
    fs::write(&shared, text.split("pattoo_agent_api").next().unwrap()).unwrap();
    shared
}

/// C4: what is planted under a name that `configure` uses is neither written through nor left in the way.
#[test]
fn configure_writes_through_nothing_that_is_planted() {
    let planted = [
        "pattoo.yaml.bak",
        "pattoo.yaml.new",
        "pattoo.yaml.tmp",
        "pattoo.yaml.bak.tmp",
        "pattoo_agent_modbustcpd.yaml.tmp",
    ];
    for link in [true, false] {
        let home = home();
        let shared = unfinished(&home);
        let old = fs::read_to_string(&shared).unwrap();
        let victim = home.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        for name in planted {
            let path = home.config_dir().join(name);
            if link { symlink(&victim, path).unwrap() } else { fs::hard_link(&victim, path).unwrap() }
        }
        let Finished { code, stderr, .. } = configure(&home);
        assert_eq!((code, &*stderr), (Some(0), ""));
        assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched", "link: {link}");
        assert_eq!(fs::read_to_string(home.config_dir().join("pattoo.yaml.bak")).unwrap(), old);
        assert!(fs::read_to_string(&shared).unwrap().contains("ip_bind_port"));
        assert!(fs::symlink_metadata(&shared).unwrap().is_file());
    }
}

/// C4: and a name that cannot be known is not used: nothing but the files that were asked for is ever there.
#[test]
fn configure_replaces_no_link_and_keeps_owner_group_and_mode() {
    let home = home();
    let shared = unfinished(&home);
    let elsewhere = home.path().join("elsewhere.yaml");
    fs::rename(&shared, &elsewhere).unwrap();
    let before = fs::read_to_string(&elsewhere).unwrap();
    symlink(&elsewhere, &shared).unwrap();
    let refused = configure(&home);
    assert_eq!(refused.code, Some(1), "{}", refused.stderr);
    assert!(refused.stderr.contains("is a link"), "{}", refused.stderr);
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), before);
    assert_eq!(fs::read_dir(home.config_dir()).unwrap().count(), 1);
    if !needs(&["root"]) {
        return;
    }
    fs::remove_file(&shared).unwrap();
    fs::rename(&elsewhere, &shared).unwrap();
    chown(&shared, Some(0), Some(4712)).unwrap();
    mode(&shared, 0o640);
    assert_eq!(configure(&home).code, Some(0));
    for name in ["pattoo.yaml", "pattoo.yaml.bak"] {
        let found = fs::metadata(home.config_dir().join(name)).unwrap();
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (0, 4712, 0o640), "{name}");
    }
}

/// C4: nothing is written where somebody else could put another directory in the place of this one.
#[test]
fn configure_refuses_a_directory_that_others_can_replace() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, &str); 4] = [
        ("etc", |path| mode(path, 0o777), "chmod o-w"),
        ("", |path| mode(path, 0o757), "chmod o-w"),
        ("etc", |path| chown(path, Some(OTHER), None).unwrap(), "belongs to user 65534"),
        ("", |path| chown(path, Some(OTHER), None).unwrap(), "belongs to user 65534"),
    ];
    for (name, spoil, told) in cases {
        if told.contains("belongs") && !needs(&["root"]) {
            continue;
        }
        let home = home();
        let shared = unfinished(&home);
        let before = fs::read_to_string(&shared).unwrap();
        spoil(&home.path().join(name));
        let Finished { code, stderr, .. } = configure(&home);
        assert_eq!(code, Some(77), "{name}: {stderr}");
        assert!(stderr.contains(told), "{name}: {stderr}");
        assert_eq!(fs::read_to_string(&shared).unwrap(), before);
    }
}

/// An image into which the agent is to be installed, with this below `/etc/pattoo`.
fn image(home: &Home, cache: &str) -> PathBuf {
    let image = home.path().join("image");
    fs::create_dir_all(image.join("etc/pattoo")).unwrap();
    fs::write(image.join("etc/passwd"), "plant:x:4711:4712::/home/plant:/bin/false\n").unwrap();
    fs::write(image.join("etc/group"), "plant:x:4712:\n").unwrap();
    let shared = format!(
        "pattoo:\n  log_directory: /var/lib/pattoo/log\n  cache_directory: {cache}\n  \
         daemon_directory: /var/lib/pattoo/daemon\n  system_daemon_directory: /run/pattoo\n"
    );
    let agent = "polling_groups:\n  - ip_devices: [192.0.2.2]\n    input_registers: [30001]\n";
    for (name, text) in [("pattoo.yaml", &*shared), ("pattoo_agent_modbustcpd.yaml", agent)] {
        fs::write(image.join("etc/pattoo").join(name), text).unwrap();
    }
    image
}

fn install(home: &Home, image: &Path) -> Finished {
    let root = image.to_str().unwrap();
    home.output(&["install", "-f", "/etc/pattoo", "--username", "plant", "--group", "plant", "--root", root])
}

/// C4: an image is not the machine, and what the service's user has planted gives it nothing of root's.
#[test]
fn install_is_led_nowhere_else() {
    type Plant = fn(&Path, &Path);
    if !needs(&["root"]) {
        return;
    }
    let plants: [Plant; 4] = [
        |image, outside| {
            fs::create_dir_all(image.join("etc/systemd")).unwrap();
            symlink(outside, image.join("etc/systemd/system")).unwrap();
        },
        |image, outside| {
            fs::create_dir_all(image.join("usr/local")).unwrap();
            symlink(outside, image.join("usr/local/bin")).unwrap();
        },
        |image, outside| {
            fs::create_dir_all(image.join("var/lib/pattoo")).unwrap();
            chown(image.join("var/lib/pattoo"), Some(4711), Some(4712)).unwrap();
            symlink(outside, image.join("var/lib/pattoo/link")).unwrap();
        },
        |image, _| {
            fs::create_dir_all(image.join("etc/systemd/system")).unwrap();
            mode(&image.join("etc/systemd/system"), 0o777);
        },
    ];
    for (number, plant) in plants.into_iter().enumerate() {
        let home = home();
        let image = image(&home, "/var/lib/pattoo/link/cache");
        let outside = home.path().join("outside");
        fs::create_dir(&outside).unwrap();
        plant(&image, &outside);
        let Finished { code, stderr, .. } = install(&home, &image);
        assert_eq!(code, Some(77), "{number}: {stderr}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "{number}");
        assert_eq!(fs::metadata(&outside).unwrap().uid(), 0, "{number}");
    }
    // What is planted as the file itself is replaced, not written through.
    let home = home();
    let image = image(&home, "/var/lib/pattoo/cache");
    let victim = home.path().join("victim");
    fs::write(&victim, "untouched").unwrap();
    let names = ["etc/systemd/system/pattoo_agent_modbustcpd.service", "usr/local/bin/pattoo_agent_modbustcpd"];
    for name in names {
        fs::create_dir_all(image.join(name).parent().unwrap()).unwrap();
        for suffix in ["", ".tmp", ".new"] {
            symlink(&victim, image.join(format!("{name}{suffix}"))).unwrap();
        }
    }
    symlink(&victim, image.join("etc/systemd/system/pattoo_agent_modbustcpd.new")).unwrap();
    let Finished { code, stderr, .. } = install(&home, &image);
    assert_eq!((code, &*stderr), (Some(0), ""));
    assert_eq!(fs::read_to_string(&victim).unwrap(), "untouched");
    assert!(names.iter().all(|name| fs::symlink_metadata(image.join(name)).unwrap().is_file()));
}

/// C5: a line break in a path would be a line of the unit that root installs.
#[test]
fn a_path_with_a_control_character_is_refused_wherever_it_comes_from() {
    let home = home();
    for bad in ["/x\\nExecStartPre=/bin/sh", "/x\\r", "/x\\e[31m", "/x\\u202e", "/x\\u2028", "~/a\\n", "/x\\0"] {
        for key in ["log_directory", "cache_directory", "daemon_directory", "system_daemon_directory"] {
            let image = image(&home, "/var/lib/pattoo/cache");
            let shared = image.join("etc/pattoo/pattoo.yaml");
            let text = fs::read_to_string(&shared).unwrap();
            let others: Vec<&str> = text.lines().filter(|line| !line.contains(&format!(" {key}:"))).collect();
            fs::write(&shared, others.join("\n") + &format!("\n  {key}: \"{bad}\"\n")).unwrap();
            let Finished { code, stdout, stderr } = install(&home, &image);
            assert_eq!((code, &*stdout), (Some(78), ""), "{key} {bad}: {stderr}");
            assert!(stderr.contains(&format!("pattoo.yaml:5:{}: pattoo.{key}: found ", key.len() + 5)), "{stderr}");
            assert_eq!(stderr.lines().count(), 1, "{stderr}");
            assert!(!image.join("etc/systemd").exists());
        }
    }
    for bad in ["/x\nExecStartPre=/bin/sh", "/x\x1b[31m", "/x\u{202e}"] {
        for arguments in [
            ["install", "-f", bad, "--username", "plant", "--group", "plant"].as_slice(),
            &["check", "--config_dir", bad],
            &["check", "--against", bad],
            &["uninstall", "--root", bad],
            &["install", "--username", bad, "--group", "plant"],
            &["install", "--username", "plant", "--group", bad],
        ] {
            assert_eq!(home.output(arguments).code, Some(2), "{arguments:?}");
        }
    }
    let agent =
        "device_defaults: {transport: tls, tls: {ca: \"a\\nb\"}}\npolling_groups:\n  - {ip_devices: [a], coils: [1]}\n";
    home.write_config(agent);
    let Finished { code, stderr, .. } = home.output(&["check", "-f", home.config_dir().to_str().unwrap()]);
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("device_defaults.tls.ca: found \"a\\nb\", in which"), "{stderr}");
}

/// C7: whatever a file of the allowed size holds, it is judged; the limit is on processor time, and generous for a
/// build that is not optimized. An optimized one needs about a second for each.
#[test]
fn no_configuration_keeps_the_processor_busy() {
    const BYTES: usize = 1_000_000;
    let fill = |piece: &str| piece.repeat(BYTES / piece.len());
    let items = |number: usize, item: &dyn Fn(usize) -> String| (0..number).map(item).collect::<Vec<_>>();
    let list = |number: usize, item: &dyn Fn(usize) -> String| items(number, item).join(", ");
    let lines = |number: usize, item: &dyn Fn(usize) -> String| items(number, item).concat();
    let group = |devices: &str, rest: &str| format!("polling_groups:\n  - ip_devices: [{devices}]\n{rest}");
    let spelled = |number: usize| -> String {
        "abcdefghijklmnop"
            .chars()
            .enumerate()
            .map(|(place, letter)| if number >> place & 1 == 1 { letter.to_ascii_uppercase() } else { letter })
            .collect()
    };
    let laughs = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, number| {
        text + &format!("a{number}: &a{number} [{}]\n", list(9, &|_| format!("*a{}", number - 1)))
    });
    let cases: [(&str, String, Option<i32>); 16] = [
        ("braces", fill("{a: "), Some(78)),
        ("brackets", fill("["), Some(78)),
        ("braces behind quotes", fill("{\"}\": "), Some(78)),
        ("lists in lists", fill("- "), Some(78)),
        ("directives", lines(40_000, &|number| format!("%TAG !a{number}! tag:x\n")), Some(78)),
        ("a billion laughs", laughs, Some(78)),
        (
            "a long text often",
            format!("a: &a \"{}\"\nb: [{}]\n", "x".repeat(400_000), list(100_000, &|_| "*a".to_owned())),
            Some(78),
        ),
        ("keys", lines(80_000, &|number| format!("k{number}: 1\n")), Some(78)),
        (
            "a long key",
            format!("? {}\n: {{{}}}\n", "k".repeat(400_000), list(50_000, &|it| format!("a{it}: 1"))),
            Some(78),
        ),
        (
            "unknown devices",
            group(&list(40_000, &|it| format!("aaa{it}")), "    coils: [1]\n")
                + &format!("devices: {{{}}}\n", list(30_000, &|it| format!("aab{it}: {{}}"))),
            Some(78),
        ),
        ("one device in many spellings", group(&list(50_000, &spelled), "    coils: [1]\n"), Some(0)),
        (
            "ranges",
            "polling_groups:\n".to_owned() + &"  - {ip_devices: [a], coils: [1-65535, 1-65535]}\n".repeat(18_000),
            Some(78),
        ),
        (
            "intervals",
            "polling_groups:\n".to_owned()
                + &lines(10_000, &|it| {
                    format!("  - {{ip_devices: [a], polling_interval: {}, coils: [{}]}}\n", it + 1, it + 1)
                }),
            Some(0),
        ),
        (
            "registers that are none",
            group("a", &format!("    coils: [{}]\n", list(300_000, &|_| "x".to_owned()))),
            Some(78),
        ),
        (
            "keys of registers that are none",
            group("a", &format!("    coils: [{}]\n", list(70_000, &|_| "{adress: 1}".to_owned()))),
            Some(78),
        ),
        (
            "numbers of YAML 1.1",
            group("a", &format!("    holding_registers: [{}]\n", list(100_000, &|_| "040001".to_owned()))),
            Some(78),
        ),
    ];
    judge_in_time(cases);
}

/// D3 and C7: what the Python agent took is warned of, and that is no less bounded.
#[test]
fn no_configuration_of_the_python_agent_keeps_the_processor_busy_or_fills_the_log() {
    let items = |number: usize, item: &dyn Fn(usize) -> String| (0..number).map(item).collect::<Vec<_>>();
    let list = |number: usize, item: &dyn Fn(usize) -> String| items(number, item).join(", ");
    let lines = |number: usize, item: &dyn Fn(usize) -> String| items(number, item).concat();
    let own = "polling_groups:\n  - {ip_devices: [a], input_registers: [30001]}\n";
    let twice = lines(45_000, &|it| format!("k{it}: 1\n")) + &lines(45_000, &|it| format!("k{}: 1\n", 44_999 - it));
    let merged = format!("a: &a {{{}}}\npolling_groups:\n", list(900, &|it| format!("x{it}: 1")))
        + &lines(480, &|it| format!("  - {{<<: *a, ip_devices: [a{it}], input_registers: [30001]}}\n"));
    let devices = list(60_000, &|it| format!("'::{it}::'"));
    judge_in_time([
        ("keys that it ignored", lines(60_000, &|it| format!("k{it}: 1\n")) + own, Some(0)),
        ("keys that are there twice", twice + own, Some(0)),
        ("keys that are merged into many groups", merged, Some(0)),
        ("devices that it went past", own.replace("[a]", &format!("[a, {devices}]")), Some(0)),
    ]);
}

/// Fails unless each of these files is judged by `check` within some seconds of processor time, with this exit code and
/// few words.
fn judge_in_time<const N: usize>(cases: [(&str, String, Option<i32>); N]) {
    let home = home();
    let directory = home.config_dir();
    for (name, text, expected) in cases {
        assert!(text.len() <= 1 << 20, "{name}: {}", text.len());
        home.write_config(&text);
        let script = r#"ulimit -t 20; exec "$0" check --config_dir "$1""#;
        let checked = Command::new("sh")
            .args(["-c", script, env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd"), directory.to_str().unwrap()])
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), expected, "{name}: {told:.300}");
        assert!(told.len() < 60_000, "{name}: {} bytes", told.len());
    }
}

/// Whether anything but a newline could move a cursor or hide what is there.
fn is_harmless(text: &str) -> bool {
    let bad = |it: char| {
        (it.is_control() && it != '\n')
            || matches!(it, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    !text.contains(bad)
}

/// C8: names are data: no terminal obeys them, and none of them makes a line.
#[test]
fn names_that_a_terminal_would_obey_are_shown_and_not_done() {
    let evil = "\\e[31mred\\nforged: line\\r\\u202e\\u200b\\x07";
    let (device, server) = (Device::counting(90), Server::start());
    let home = Home::new(server.address());
    let directory = home.config_dir();
    let directory = directory.to_str().unwrap();
    let valid = format!(
        "polling_interval: 100ms\nflush_interval: 50ms\nagent_hostname: agent.example.net\n\
         device_defaults: {{retries: 1}}\npolling_groups:\n  - group_name: \"{evil}\"\n    ip_devices: ['{}', '127.0.0.1:1']\n    \
         input_registers: [30001, 30001, 1]\n  - group_name: \"two {evil}\"\n    ip_devices: ['{}']\n    \
         input_registers: [{{address: 30001, multiplier: 2}}]\n",
        device.target(),
        device.target()
    );
    home.write_config(&valid);
    let group = "\u{1b}[31mred\nforged: line\r\u{202e}\u{200b}\u{7}";
    for arguments in [
        ["check"].as_slice(),
        &["check", "--settings"],
        &["check", "--against", directory],
        &["plan"],
        &["plan", "--format", "json"],
        &["plan", "--response", "1s"],
        &["once"],
        &["once", "--format", "json"],
        &["once", "--format", "csv"],
        &["once", "--group", group],
        &["once", "--group", "\x1b[31m"],
        &["once", "--device", "\x1b[31m\nx"],
        &["probe", "\x1b[31m\nx", "30001"],
    ] {
        let all: Vec<&str> = arguments.iter().copied().chain(["--config_dir", directory]).collect();
        let Finished { stdout, stderr, .. } = home.output(&all);
        for text in [&stdout, &stderr] {
            assert!(is_harmless(text), "{arguments:?}: {text:?}");
            assert!(!text.lines().any(|line| line.trim_start().starts_with("forged")), "{arguments:?}: {text}");
        }
        assert!(stdout.len() + stderr.len() > 20, "{arguments:?} says something");
        if arguments.contains(&"json") {
            serde_json::from_str::<serde_json::Value>(&stdout).unwrap();
        }
    }
    let mut agent = home.run();
    agent.until("readings to arrive", || server.row_count() > 0);
    let status = home.output(&["--status", "--all", "--config_dir", directory]);
    assert!(status.stdout.contains("is running") && is_harmless(&status.stdout), "{:?}", status.stdout);
    agent.stop();
    let log = home.log();
    assert!(log.contains("forged") && is_harmless(&log) && is_harmless(&agent.log()), "{log:?}");
    assert!(log.lines().all(|line| line.starts_with("20")), "{log}");

    for wrong in [
        format!("\"{evil}\": 1\npolling_groups: []\n"),
        format!("polling_groups:\n  - {{ip_devices: [\"a{evil}\"], coils: [1]}}\n"),
        format!("polling_groups:\n  - {{ip_devices: [a], \"{evil}\": 1, coils: [\"{evil}\"], type: \"{evil}\"}}\n"),
        format!("devices: {{\"{evil}\": {{\"{evil}\": x}}}}\npolling_groups:\n  - {{ip_devices: [a], coils: [1]}}\n"),
        format!("a: !<{}> x\n*\u{202e}", "t"),
        format!("a: *{}", "b\u{202e}"),
    ] {
        home.write_config(&wrong);
        for command in ["check", "plan", "once", "run"] {
            let Finished { code, stdout, stderr } = home.output(&[command, "--config_dir", directory]);
            assert_eq!((code, &*stdout), (Some(78), ""), "{command} {wrong}");
            assert!(is_harmless(&stderr), "{command}: {stderr:?}");
            let place = home.path().to_str().unwrap();
            let of_the_file = |line: &str| line.strip_prefix("warning: ").unwrap_or(line).starts_with(place);
            // Below a message stands the line of the file, with its number, and a caret.
            let is_shown = |line: &str| {
                let margin = line.split_once(" |").map(|(margin, _)| margin.trim_start());
                line.starts_with("  ") && margin.is_some_and(|margin| margin.bytes().all(|byte| byte.is_ascii_digit()))
            };
            assert!(stderr.lines().all(|line| of_the_file(line) || is_shown(line)), "{stderr}");
        }
    }
}

/// C9: whoever may write to what the agent obeys is named, with the mode and what to do.
#[test]
fn files_and_directories_that_others_may_change_are_warned_of() {
    type Spoil = fn(&Path);
    let cases: [(&str, Spoil, &str, &str); 6] = [
        ("etc", |path| mode(path, 0o777), "mode 0777", "chmod o-w"),
        ("etc", |path| mode(path, 0o1777), "mode 1777", "chmod o-w"),
        ("etc/pattoo.yaml", |path| chown(path, Some(OTHER), None).unwrap(), "belongs to user 65534", "chown root"),
        ("etc", |path| chown(path, Some(OTHER), None).unwrap(), "belongs to user 65534", "chown root"),
        (
            "etc/pattoo_agent_modbustcpd.yaml",
            |path| {
                chown(path, None, Some(4712)).unwrap();
                mode(path, 0o664);
            },
            "mode 0664 lets group 4712",
            "chmod g-w",
        ),
        (
            "etc",
            |path| {
                chown(path, None, Some(4712)).unwrap();
                mode(path, 0o775);
            },
            "mode 0775 lets group 4712",
            "chmod g-w",
        ),
    ];
    if !needs(&["root"]) {
        return;
    }
    for (name, spoil, found, advice) in cases {
        let home = home();
        home.write_config("polling_groups:\n  - {ip_devices: [192.0.2.2], unit: 1, coils: [1]}\n");
        let directory = home.config_dir();
        let check = ["check", "--strict", "--config_dir", directory.to_str().unwrap()];
        let before = home.output(&check);
        assert_eq!((before.code, &*before.stderr), (Some(0), ""));
        spoil(&home.path().join(name));
        let Finished { code, stderr, .. } = home.output(&check);
        assert_eq!(code, Some(78), "{name}: {stderr}");
        let path = home.path().join(name);
        assert!(stderr.starts_with(&format!("warning: {}:", path.display())), "{stderr}");
        assert!(stderr.contains(found) && stderr.contains(advice), "{stderr}");
    }
}

/// A `ConfigMap` has mode 0777 and is mounted read-only: nobody can write there, nor follow the advice to change that.
#[test]
fn a_config_map_is_not_warned_of_while_nobody_can_write_to_it() {
    if !support::needs(&["root", "unshare", "mount"]) {
        return;
    }
    let home = home();
    let directory = home.config_dir();
    home.write_config("polling_groups:\n  - {ip_devices: [192.0.2.2], unit: 1, coils: [1]}\n");
    let data = directory.join("..2026_11_28");
    fs::create_dir(&data).unwrap();
    symlink("..2026_11_28", directory.join("..data")).unwrap();
    for name in ["pattoo.yaml", "pattoo_agent_modbustcpd.yaml"] {
        fs::rename(directory.join(name), data.join(name)).unwrap();
        symlink(Path::new("..data").join(name), directory.join(name)).unwrap();
    }
    mode(&directory, 0o2777);
    mode(&data, 0o2777);
    for (mount, warned) in [("ro", false), ("rw", true)] {
        let script = format!(
            r#"mount --bind "$1" "$1" && mount -o remount,bind,{mount} "$1" && exec "$0" check --strict --config_dir "$1""#
        );
        let checked = Command::new("unshare")
            .args(["--mount", "sh", "-c", &script, env!("CARGO_BIN_EXE_pattoo_agent_modbustcpd")])
            .arg(&directory)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), Some(if warned { 78 } else { 0 }), "{mount}: {told}");
        assert_eq!(told.contains("mode 2777 lets every user"), warned, "{mount}: {told}");
    }
}

/// C9: a private key that others may read is told with its mode and what to do; one that is the agent's alone is not.
#[test]
fn a_private_key_that_everybody_can_read_is_warned_of() {
    let home = home();
    let directory = home.config_dir();
    for (certificate, key) in [("ca.pem", "ca.key"), ("me.pem", "me.key")] {
        let made = rcgen::generate_simple_self_signed([certificate.to_owned()]).unwrap();
        fs::write(directory.join(certificate), made.cert.pem()).unwrap();
        fs::write(directory.join(key), made.signing_key.serialize_pem()).unwrap();
    }
    home.write_config(
        "device_defaults: {transport: tls, tls: {ca: ca.pem, certificate: me.pem, key: me.key}}\n\
         polling_groups:\n  - {ip_devices: [192.0.2.2], unit: 1, coils: [1]}\n",
    );
    let key = directory.join("me.key");
    for (bits, warned) in [(0o600, false), (0o640, false), (0o644, true), (0o604, true), (0o601, true)] {
        mode(&key, bits);
        let Finished { code, stderr, .. } = home.output(&["check", "--config_dir", directory.to_str().unwrap()]);
        assert_eq!((code, stderr.is_empty()), (Some(0), !warned), "{bits:o}: {stderr}");
        if warned {
            let told = [key.to_str().unwrap(), &format!("(mode {bits:04o})"), "chmod o-rwx"];
            assert!(told.iter().all(|told| stderr.contains(told)), "{stderr}");
        }
    }
}
