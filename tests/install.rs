//! `install` and `uninstall` as an engineer meets them, into images; the unit as systemd judges it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::agent::{Finished, Home};
use support::needs;

const UNIT: &str = "etc/systemd/system/pattoo_agent_modbustcpd.service";

/// An image with a configuration, a user and a group.
fn image() -> (Home, PathBuf) {
    let home = Home::new("127.0.0.1:9".parse().unwrap());
    let image = home.path().join("image");
    fs::create_dir_all(image.join("etc/pattoo")).unwrap();
    fs::write(image.join("etc/passwd"), "root:x:0:0::/root:/bin/sh\nplant:x:4711:4712::/home/plant:/bin/false\n")
        .unwrap();
    fs::write(image.join("etc/group"), "plant:x:4712:\n").unwrap();
    write_config(&image, "/var/lib/pattoo");
    (home, image)
}

fn write_config(image: &Path, data: &str) {
    let shared = format!(
        "pattoo:\n  log_directory: {data}/log\n  cache_directory: {data}/cache\n  daemon_directory: {data}/daemon\n  \
         system_daemon_directory: /run/pattoo\npattoo_agent_api: {{ip_address: 192.0.2.1, ip_bind_port: 20201}}\n"
    );
    let agent = "polling_groups:\n  - ip_devices: [192.0.2.2]\n    input_registers: [30001]\n";
    for (name, text) in [("pattoo.yaml", &*shared), ("pattoo_agent_modbustcpd.yaml", agent)] {
        let path = image.join("etc/pattoo").join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    }
}

fn install(home: &Home, image: &Path, more: &[&str]) -> Finished {
    let mut arguments = vec!["install", "--config_dir", "/etc/pattoo", "--username", "plant", "--group", "plant"];
    arguments.extend(["--root", image.to_str().unwrap()]);
    arguments.extend(more);
    home.output(&arguments)
}

#[test]
fn an_image_gets_the_unit_the_program_and_the_directories_and_loses_only_the_unit_again() {
    if !needs(&["root"]) {
        return;
    }
    let (home, image) = image();
    for _ in 0..2 {
        let Finished { code, stdout, stderr } = install(&home, &image, &[]);
        assert_eq!((code, &*stderr), (Some(0), ""));
        assert_eq!(
            stdout,
            "\nSUCCESS! You are now able to start/stop and enable/disable the following systemd services:\n\n\
             pattoo_agent_modbustcpd.service\n"
        );
    }
    let program = fs::metadata(image.join("usr/local/bin/pattoo_agent_modbustcpd")).unwrap();
    assert_eq!(program.mode() & 0o7777, 0o755);
    for name in ["cache", "daemon", "log"] {
        let directory = fs::metadata(image.join("var/lib/pattoo").join(name)).unwrap();
        assert_eq!((directory.uid(), directory.gid(), directory.mode() & 0o7777), (4711, 4712, 0o750), "{name}");
    }
    assert!(!image.join("run").exists(), "systemd makes it at each start");
    assert!(!image.join("etc/systemd/system/multi-user.target.wants").exists(), "nothing is enabled");
    let uninstall = home.output(&["uninstall", "--root", image.to_str().unwrap()]);
    assert_eq!(uninstall.code, Some(0), "{}", uninstall.stderr);
    assert!(!image.join(UNIT).exists());
    assert!(image.join("var/lib/pattoo/cache").exists() && image.join("etc/pattoo/pattoo.yaml").exists());
    assert_eq!(home.output(&["uninstall", "--root", image.to_str().unwrap()]).code, Some(0), "again");
}

#[test]
fn a_dry_run_prints_the_unit_and_touches_nothing() {
    let (home, image) = image();
    let Finished { code, stdout, stderr } = install(&home, &image, &["--dry-run"]);
    assert_eq!((code, &*stderr), (Some(0), ""));
    let agent = image.join("etc/pattoo/pattoo_agent_modbustcpd.yaml");
    fs::write(&agent, fs::read_to_string(&agent).unwrap() + "outputs: [sqlite]\n").unwrap();
    fs::remove_file(image.join("etc/pattoo/pattoo.yaml")).unwrap();
    let without_pattoo = install(&home, &image, &["--dry-run"]).stdout;
    for line in ["Type=notify", "User=plant", "ReadWritePaths=/var/lib/pattoo/cache", "RuntimeDirectory=pattoo"] {
        for unit in [&stdout, &without_pattoo] {
            assert!(unit.lines().any(|found| found == line), "{line} in {unit}");
        }
    }
    assert!(!image.join("var").exists() && !image.join(UNIT).exists());
}

#[test]
fn what_is_wrong_is_said_before_anything_is_changed() {
    let (home, image) = image();
    let shared = image.join("etc/pattoo/pattoo.yaml");
    let cases: [(&str, &dyn Fn(), i32, &str); 4] = [
        ("file", &|| fs::set_permissions(&shared, fs::Permissions::from_mode(0o600)).unwrap(), 77, "chgrp plant"),
        ("owner", &|| fs::create_dir_all(image.join("var/lib/pattoo/cache")).unwrap(), 77, "chown -R plant:plant"),
        ("config", &|| fs::write(&shared, "pattoo: {}\n").unwrap(), 78, "log_directory is missing"),
        ("user", &|| fs::write(image.join("etc/passwd"), "").unwrap(), 1, "useradd --system"),
    ];
    for (name, break_it, expected, told) in cases {
        if name != "file" {
            fs::set_permissions(&shared, fs::Permissions::from_mode(0o644)).unwrap();
        }
        break_it();
        let Finished { code, stdout, stderr } = install(&home, &image, &["--dry-run"]);
        assert_eq!((code, &*stdout), (Some(expected), ""), "{name}: {stderr}");
        assert!(stderr.contains(told), "{name}: {stderr}");
        assert!(!image.join(UNIT).exists());
    }
}

#[test]
fn systemd_understands_the_unit_and_finds_it_at_most_1_2_exposed() {
    if !needs(&["systemd-analyze"]) {
        return;
    }
    let (home, image) = image();
    // In homes too, where more has to be shown to the service.
    for (data, more, name) in [
        ("/var/lib/pattoo", &["--dry-run"][..], "pattoo_agent_modbustcpd.service"),
        ("/home/plant/pattoo", &["--dry-run"], "pattoo_agent_modbustcpd.service"),
        ("/var/lib/pattoo", &["--dry-run", "--shards"], "pattoo_agent_modbustcpd@0-4.service"),
    ] {
        write_config(&image, data);
        let text = install(&home, &image, more).stdout;
        assert_eq!(text.contains("PATTOO_SHARD=%I"), more.len() > 1, "{text}");
        let unit = text.split_once("<<'END'\n").unwrap().1.split_once("\nEND").unwrap().0;
        let unit = unit.replace("/usr/local/bin/pattoo_agent_modbustcpd", "/bin/true");
        let file = home.path().join(name);
        fs::write(&file, unit).unwrap();
        let analyze = |arguments: &[&str]| Command::new("systemd-analyze").args(arguments).arg(&file).output();
        let verified = analyze(&["verify", "--man=no"]).unwrap();
        let told = String::from_utf8_lossy(&verified.stderr).into_owned();
        let ours: Vec<_> = told.lines().filter(|line| line.contains("pattoo_agent_modbustcpd")).collect();
        assert!(ours.is_empty(), "{told}");
        let judged = analyze(&["security", "--offline=yes", "--threshold=12", "--no-pager"]).unwrap();
        assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
    }
}

/// E9: what `systemctl reload` asks first.
#[test]
fn a_service_manager_hears_of_faults_and_of_nothing_else() {
    let home = Home::new("127.0.0.1:9".parse().unwrap());
    let ask = |yaml: &str| {
        home.write_config(yaml);
        home.output(&["check", "--quiet", "--config_dir", home.config_dir().to_str().unwrap()])
    };
    // Doubtful: one number is of another table.
    let good = ask("polling_groups: [{ip_devices: [192.0.2.1], input_registers: [30001, 40001]}]\n");
    assert_eq!((good.code, &*good.stdout, &*good.stderr), (Some(0), "", ""));
    let bad = ask("polling_groups: [{ip_devices: [192.0.2.1], input_registers: [0]}]\npolling_interval: never\n");
    assert_eq!((bad.code, &*bad.stdout), (Some(78), ""));
    assert!(bad.stderr.contains("never"), "{}", bad.stderr);
}
