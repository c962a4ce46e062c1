//! A file system of a test's own, which can be pulled, or lose its power.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A file system that is mounted at a directory, until it is dropped.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Mounted {
    /// Mounts at `directory`, which is made, what these arguments of `mount` say. Where that is not possible the test is skipped.
    pub fn at(directory: &Path, arguments: &[&str]) -> Option<Self> {
        fs::create_dir_all(directory).expect("a directory of the test's own");
        let mounted = Self(directory.to_owned());
        let possible = mounted.mount(arguments);
        if !possible {
            super::skipped(&format!("mount {arguments:?} is not possible"));
        }
        possible.then_some(mounted)
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Mounts again, after [`unmount`](Self::unmount), or otherwise.
    pub fn mount(&self, arguments: &[&str]) -> bool {
        succeeds(Command::new("mount").args(arguments).arg(&self.0))
    }

    /// Takes it away from its place; who is in it stays in it.
    pub fn pull(&self) -> bool {
        succeeds(Command::new("umount").arg("-l").arg(&self.0))
    }

    /// Takes it away for good: nobody is in it any more.
    pub fn unmount(&self) {
        super::until("the file system to be free", || succeeds(Command::new("umount").arg(&self.0)));
    }

    /// From now on nothing reaches the disk, not even the journal: `EXT4_IOC_SHUTDOWN` without a flush. Whether that is possible.
    pub fn cut_the_power(&self) -> bool {
        let shutdown = "open(my $d, '<', $ARGV[0]) or exit 1; my $how = pack('L', 2); \
                        defined ioctl($d, 0x8004587d, $how) or exit 1";
        succeeds(Command::new("perl").args(["-e", shutdown]).arg(&self.0))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        self.pull();
    }
}

fn succeeds(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}
