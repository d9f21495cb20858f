//! Tests that cannot run here: never in silence.

use std::env;
use std::io::{self, Write};
use std::path::Path;
use std::process::Command;

/// What a test has to do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lack {
    /// What the machine of whoever develops here may lack, but none that says whether all is well: Node.
    Needed,
    /// A program that `./dev test` installs where it may.
    Program,
    /// What the machine does not let this user do, whatever is installed: make a namespace, mount a file system.
    Ability,
}

impl Lack {
    /// Why something went wrong that takes these programs, and that a machine may forbid.
    pub fn of(programs: &[&str]) -> Self {
        if programs.iter().all(|program| is_there(program)) { Self::Ability } else { Self::Program }
    }
}

/// Says that a test is skipped, and why; past the capture of the test harness, so that it is seen although the test
/// passes. Then the test returns.
///
/// # Panics
///
/// Where it must not be skipped, so that a suite that tests less than it seems to is red:
///
/// * in CI (`CI` set) for want of [`Lack::Needed`];
/// * in CI for want of a [`Lack::Program`] where `./dev test` installs it: as root, on Debian;
/// * anywhere when `NO_SKIPS` is set, for whatever lack. That is for machines which are known to allow everything: a
///   container often has a root that may make no network and mount nothing, which no test can mend.
pub fn skipped(lack: Lack, why: &str) {
    let place = Place { ci: is_set("CI"), no_skips: is_set("NO_SKIPS"), installs: installs() };
    assert!(place.allows(lack), "this must not be skipped here: {why}");
    say(&format!("*** SKIPPED: {why} ***"));
}

/// Says something past the capture of the test harness, so that it is seen although the test passes.
pub fn say(text: &str) {
    // In one piece: other tests speak, too.
    let _ = io::stderr().write_all(format!("\n{text}\n\n").as_bytes());
}

/// `command` in a network of its own, where this machine has `address` and nobody else is; `None`, once that is said,
/// where no network can be made. `what` is then not tested.
///
/// Of the command, the program, its arguments and what was changed of its environment are taken over.
pub fn in_own_network(address: &str, command: &Command, what: &str) -> Option<Command> {
    let network = format!("ip link set lo up && ip addr add {address}/32 dev lo");
    let unshare = |then: &str| {
        let mut unshare = Command::new("unshare");
        // Whoever is not root is root of a user namespace, where that is allowed.
        unshare.args([if is_root() { "-n" } else { "-Urn" }, "sh", "-c", &format!("{network} {then}"), "sh"]);
        unshare
    };
    let made = unshare("").output();
    if !made.is_ok_and(|made| made.status.success()) {
        let lack = Lack::of(&["unshare", "ip"]);
        skipped(lack, &format!("no network namespace can be made here (unshare, ip); {what}"));
        return None;
    }
    let mut inside = unshare("&& exec \"$@\"");
    inside.arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => inside.env(name, value),
            None => inside.env_remove(name),
        };
    }
    Some(inside)
}

/// Where this runs.
#[derive(Debug, Clone, Copy)]
struct Place {
    ci: bool,
    no_skips: bool,
    /// `./dev test` installs programs here.
    installs: bool,
}

impl Place {
    fn allows(self, lack: Lack) -> bool {
        let wanted = match lack {
            Lack::Needed => self.ci,
            Lack::Program => self.ci && self.installs,
            Lack::Ability => false,
        };
        !wanted && !self.no_skips
    }
}

fn is_set(name: &str) -> bool {
    env::var_os(name).is_some_and(|value| !value.is_empty() && value != "false")
}

/// Not wherever there is `apt-get`: others have no package with a Chromium that runs in a container.
fn installs() -> bool {
    let debian = || {
        std::fs::read_to_string("/etc/os-release").is_ok_and(|os| os.lines().any(|line| line == "ID=debian"))
    };
    is_root() && is_there("apt-get") && debian()
}

fn is_root() -> bool {
    std::fs::read_to_string("/proc/self/status").is_ok_and(|status| status.contains("\nUid:\t0\t"))
}

fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(Path::new(program)).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_skipped_where() {
        let place = |ci, no_skips, installs| {
            let place = Place { ci, no_skips, installs };
            [Lack::Needed, Lack::Program, Lack::Ability].map(|lack| place.allows(lack))
        };
        assert_eq!(place(false, false, true), [true, true, true]);
        assert_eq!(place(true, false, false), [false, true, true]);
        assert_eq!(place(true, false, true), [false, false, true]);
        assert_eq!(place(false, true, false), [false; 3]);
        assert_eq!(place(true, true, true), [false; 3]);
    }

    #[test]
    fn a_missing_program_is_not_a_forbidden_thing() {
        assert_eq!(Lack::of(&["sh"]), Lack::Ability);
        assert_eq!(Lack::of(&["sh", "a-program-that-nobody-has"]), Lack::Program);
    }
}
