//! Users and groups by name: of this machine as `getent` knows them (directories such as LDAP included), of
//! an image as its own `/etc/passwd` and `/etc/group` list them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Who runs the agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
    /// The user's home directory.
    pub home: PathBuf,
}

/// The account of this user and group, or what is missing.
///
/// # Errors
/// With a sentence that names the user or group and how to make it.
pub fn find(username: &str, group: &str, root: Option<&Path>) -> Result<Account, String> {
    let (passwd, groups) = (entries("passwd", username, root), entries("group", group, root));
    let user = user(&passwd, username).ok_or_else(|| {
        format!("there is no user \"{username}\"; make one: useradd --system --user-group --no-create-home {username}")
    })?;
    let gid = number(&groups, group)
        .ok_or_else(|| format!("there is no group \"{group}\"; make one: groupadd --system {group}"))?;
    Ok(Account { uid: user.0, gid, home: user.1 })
}

fn entries(database: &str, name: &str, root: Option<&Path>) -> String {
    let file = |root: &Path| fs::read_to_string(root.join("etc").join(database)).unwrap_or_default();
    match root {
        // Of an image: the users of this machine are others.
        Some(root) => file(root),
        // By `getent`, because users may be those of a directory such as LDAP; `--`, because a name may begin with a
        // hyphen.
        None => match Command::new("getent").args(["--", database, name]).output() {
            Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
            // Some small systems have no `getent`.
            Err(_) => file(Path::new("/")),
        },
    }
}

/// Number and home of a user in lines of `passwd`.
fn user(passwd: &str, name: &str) -> Option<(u32, PathBuf)> {
    let fields = line(passwd, name)?;
    Some((fields.get(2)?.parse().ok()?, PathBuf::from(fields.get(5)?)))
}

/// Number of a group in lines of `group`.
fn number(groups: &str, name: &str) -> Option<u32> {
    line(groups, name)?.get(2)?.parse().ok()
}

fn line<'a>(lines: &'a str, name: &str) -> Option<Vec<&'a str>> {
    lines.lines().map(|line| line.split(':').collect::<Vec<_>>()).find(|fields| fields.first() == Some(&name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_found_by_its_whole_name_only() {
        let passwd =
            "root:x:0:0:root:/root:/bin/sh\npattoo2:x:7:7::/two:\npattoo:x:990:991:a b:/var/lib/pattoo:/bin/false\n";
        assert_eq!(user(passwd, "pattoo"), Some((990, PathBuf::from("/var/lib/pattoo"))));
        assert_eq!(user(passwd, "patto"), None);
        assert_eq!(number("adm:x:4:pattoo\npattoo:x:991:\n", "pattoo"), Some(991));
    }
}
