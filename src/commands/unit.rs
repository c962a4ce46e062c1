//! The systemd service, rendered from `setup/systemd/pattoo_agent_modbustcpd.service`. Pure.
//!
//! The template holds everything that is the same for all; filled in are the program, the configuration, who
//! runs it, and the directories that it may write to. All else is read-only for it, and home directories are
//! hidden but for those of its directories that lie in one.
//!
//! What is filled in is one word for systemd, whatever characters it has: quoted where a space, a quote or a comment sign
//! would end it, `%`, `\` and (in commands) `$` doubled. No text can hold a newline: the command line and the
//! configuration refuse control characters.

use std::path::{Path, PathBuf};

const TEMPLATE: &str = include_str!("../../setup/systemd/pattoo_agent_modbustcpd.service");

/// The name of an instance has no slash, and systemd reads a hyphen as one.
const SHARD: &str = "\nEnvironment=PATTOO_SHARD=%I";

/// Hidden by `ProtectHome=`.
const HIDDEN: [&str; 3] = ["/home", "/root", "/run/user"];

/// What differs between installations.
#[derive(Debug, Clone)]
pub struct Service<'a> {
    /// The program.
    pub binary: &'a Path,
    /// The directory with the configuration.
    pub config_dir: &'a Path,
    /// Who runs it.
    pub username: &'a str,
    /// As which group.
    pub group: &'a str,
    /// What it writes to.
    pub directories: &'a [PathBuf],
    /// Whether it is a template for shards: `pattoo_agent_modbustcpd@0-4.service` is shard 0/4.
    pub of_shards: bool,
}

/// The unit file.
#[must_use]
pub fn render(service: &Service<'_>) -> String {
    let mut lines = Vec::new();
    for directory in service.directories {
        lines.push(match runtime_name(directory) {
            // Gone at each boot: made by systemd, and left alone at a stop because others may use it too.
            Some(name) => format!(
                "RuntimeDirectory={}\nRuntimeDirectoryMode=0750\nRuntimeDirectoryPreserve=yes",
                name.replace('%', "%%")
            ),
            // `ProtectHome=` hides all of /home, so that a directory there has to be bound in; a colon in it would name
            // two.
            None if is_hidden(directory) => format!("BindPaths={}", quoted(directory).replace(':', "\\:")),
            None => format!("ReadWritePaths={}", quoted(directory)),
        });
    }
    if is_hidden(service.config_dir) {
        lines.push(format!("BindReadOnlyPaths={}", quoted(service.config_dir).replace(':', "\\:")));
    }
    let environment = quoted(Path::new(&format!("PATTOO_CONFIGDIR={}", service.config_dir.display())));
    TEMPLATE
        .replace("@ENVIRONMENT@", &(environment + if service.of_shards { SHARD } else { "" }))
        // Only a command line has variables filled in.
        .replace("@BINARY@", &quoted(service.binary).replace('$', "$$"))
        .replace("@USERNAME@", &service.username.replace('%', "%%"))
        .replace("@GROUP@", &service.group.replace('%', "%%"))
        .replace("@DIRECTORIES@", &lines.join("\n"))
}

/// The name of a directory that is gone at each boot, below `/run`.
#[must_use]
pub fn runtime_name(directory: &Path) -> Option<&str> {
    let name = directory.strip_prefix("/run").or_else(|_| directory.strip_prefix("/var/run")).ok()?.to_str()?;
    // What systemd would read as several names, as a link (`a:b`) or as a way out of /run is no such name.
    let plain = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.chars().all(|it| it.is_ascii_alphanumeric() || "_.-".contains(it))
    };
    (!name.starts_with("user/") && name.split('/').all(plain)).then_some(name)
}

/// Whether a service without home directories does not see it.
#[must_use]
pub fn is_hidden(path: &Path) -> bool {
    HIDDEN.iter().any(|hidden| path.starts_with(hidden))
}

/// As systemd reads it back: one word, no specifiers.
fn quoted(path: &Path) -> String {
    // The backslash first, or those that are put in here would be doubled.
    let text = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    let plain = |character: char| character.is_alphanumeric() || "/._-%:@+,=~$".contains(character);
    if text.chars().all(plain) { text } else { format!("\"{text}\"") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(config_dir: &str, directories: &[&str]) -> String {
        let directories: Vec<PathBuf> = directories.iter().map(PathBuf::from).collect();
        render(&Service {
            binary: Path::new("/usr/local/bin/pattoo_agent_modbustcpd"),
            config_dir: Path::new(config_dir),
            username: "pattoo",
            group: "pattoo",
            directories: &directories,
            of_shards: false,
        })
    }

    #[test]
    fn each_directory_gets_the_least_that_makes_it_writable() {
        let unit = unit("/etc/pattoo", &["/var/lib/pattoo/cache", "/home/me/pattoo log", "/var/run/pattoo"]);
        for line in [
            "ReadWritePaths=/var/lib/pattoo/cache",
            "BindPaths=\"/home/me/pattoo log\"",
            "RuntimeDirectory=pattoo",
            "Environment=PATTOO_CONFIGDIR=/etc/pattoo",
            "ExecStart=/usr/local/bin/pattoo_agent_modbustcpd run",
        ] {
            assert!(unit.lines().any(|found| found == line), "{line} in {unit}");
        }
        assert!(!unit.contains("BindReadOnlyPaths"), "{unit}");
    }

    #[test]
    fn a_configuration_in_a_home_is_shown_and_a_percent_sign_is_none_of_systemds() {
        let unit = unit("/home/me/100% pattoo", &[]);
        assert!(unit.contains("BindReadOnlyPaths=\"/home/me/100%% pattoo\""), "{unit}");
        assert!(unit.contains("Environment=\"PATTOO_CONFIGDIR=/home/me/100%% pattoo\""), "{unit}");
    }

    /// C5: whatever a path holds, it is one word of the line that it is meant for.
    #[test]
    fn no_character_of_a_path_gets_out_of_its_word() {
        let cases = [
            (r"/a b", r#""/a b""#),
            (r#"/a"b"#, r#""/a\"b""#),
            (r"/a\b", r#""/a\\b""#),
            (r"/a%nb", r"/a%%nb"),
            (r"/a;b#c'd", r#""/a;b#c'd""#),
            (r"/a-b_c.d", r"/a-b_c.d"),
        ];
        for (path, word) in cases {
            let unit = unit("/etc/pattoo", &[path]);
            let line = format!("ReadWritePaths={word}");
            assert!(unit.lines().any(|found| found == line), "{line} in {unit}");
            let directories = [PathBuf::from("/x")];
            let binary = Path::new("/opt/$HOME/agent");
            let service = Service {
                binary,
                config_dir: Path::new(path),
                username: "pattoo",
                group: "pattoo",
                directories: &directories,
                of_shards: false,
            };
            let unit = render(&service);
            assert!(unit.lines().any(|found| found == "ExecStart=/opt/$$HOME/agent run"), "{unit}");
            assert_eq!(unit.lines().filter(|line| line.contains("PATTOO_CONFIGDIR=")).count(), 1);
        }
        for path in ["/run/a:b", "/run/../etc", "/run/a b", "/run/.", "/run/a//b", "/run/user/7", "/run/a%n"] {
            let found = runtime_name(Path::new(path));
            assert!(found.is_none_or(|name| name == "a/b"), "{path}: {found:?}");
        }
    }

    /// Packages put their units where `install` would not write: `/usr/lib`.
    #[test]
    fn the_units_of_the_packages_are_what_the_template_makes_of_their_places() {
        let directories = ["/run/pattoo", "/var/lib/pattoo", "/var/log/pattoo"].map(PathBuf::from);
        let packaged = [
            (false, include_str!("../../setup/packages/pattoo_agent_modbustcpd.service")),
            (true, include_str!("../../setup/packages/pattoo_agent_modbustcpd@.service")),
        ];
        for (of_shards, unit) in packaged {
            let service = Service {
                binary: Path::new("/usr/bin/pattoo_agent_modbustcpd"),
                config_dir: Path::new("/etc/pattoo"),
                username: "pattoo",
                group: "pattoo",
                directories: &directories,
                of_shards,
            };
            assert_eq!(render(&service), unit);
        }
    }

    #[test]
    fn nothing_is_left_to_fill_in() {
        let unit = unit("/etc/pattoo", &["/var/lib/pattoo"]);
        let left = unit.split_whitespace().find(|word| word.matches('@').count() > 1);
        assert_eq!(left, None);
    }
}
