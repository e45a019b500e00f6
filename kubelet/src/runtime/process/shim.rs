//! The program between the kubelet and a container's command: `pintle runtime-exec`.
//!
//! It joins the container's cgroup and network namespace, then becomes the command by `exec`. All of
//! this must happen in the new process before the command begins, and a process of its own is the
//! one way to do it without unsafe code after `fork`.
//!
//! Its standard input is a socket to the kubelet, closed by a successful `exec`; what is read from it
//! before is why the command could not start.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

use nix::sched::{CloneFlags, setns, unshare};
use pintle_node::cgroup::Cgroup;

/// What the shim is told on its command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invocation {
    /// The cgroup to join.
    pub cgroup: PathBuf,
    /// The network namespace to enter, if not the caller's.
    pub netns: Option<PathBuf>,
    /// The host name to take, in a UTS namespace of its own.
    pub hostname: Option<String>,
    /// The directory to start in.
    pub workdir: Option<PathBuf>,
    /// The command and its arguments; not empty.
    pub command: Vec<OsString>,
}

/// Become a container's command; returns only if that failed, with the exit code. `args` is what
/// follows `runtime-exec`.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let report = match take_stdin() {
        Ok(report) => report,
        Err(error) => {
            eprintln!("pintle runtime-exec: take standard input: {error}");
            return EXIT_NOT_STARTED;
        }
    };
    let message = match parse(args) {
        Ok(invocation) => become_command(&invocation),
        Err(message) => message,
    };
    let mut report = File::from(report);
    // Nobody to tell if the kubelet is gone.
    let _ = report.write_all(message.as_bytes());
    EXIT_NOT_STARTED
}

/// Move standard input to a descriptor that `exec` closes, and put /dev/null in its place.
fn take_stdin() -> io::Result<OwnedFd> {
    let report = io::stdin().as_fd().try_clone_to_owned()?;
    nix::unistd::dup2_stdin(File::open("/dev/null")?)?;
    Ok(report)
}

/// The command line of an invocation, for [`parse`].
#[must_use]
pub fn arguments(invocation: &Invocation) -> Vec<OsString> {
    let mut args: Vec<OsString> = vec!["--cgroup".into(), invocation.cgroup.clone().into()];
    let mut option = |name: &str, value: Option<OsString>| {
        if let Some(value) = value {
            args.extend([name.into(), value]);
        }
    };
    option("--netns", invocation.netns.clone().map(Into::into));
    option("--hostname", invocation.hostname.clone().map(Into::into));
    option("--workdir", invocation.workdir.clone().map(Into::into));
    args.push("--".into());
    args.extend(invocation.command.iter().cloned());
    args
}

/// Read a command line of the form of [`arguments`].
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Invocation, String> {
    let mut args = args.into_iter();
    let (mut cgroup, mut netns, mut hostname, mut workdir) = (None, None, None, None);
    loop {
        let name = args.next().ok_or("runtime-exec: expected -- and a command")?;
        let slot = match name.to_str() {
            Some("--") => break,
            Some("--cgroup") => &mut cgroup,
            Some("--netns") => &mut netns,
            Some("--hostname") => &mut hostname,
            Some("--workdir") => &mut workdir,
            _ => return Err(format!("runtime-exec: unknown argument {name:?}")),
        };
        *slot = Some(args.next().ok_or(format!("runtime-exec: {name:?} needs a value"))?);
    }
    let command: Vec<OsString> = args.collect();
    if command.is_empty() {
        return Err("runtime-exec: no command after --".to_owned());
    }
    let hostname = hostname
        .map(|name| name.into_string().map_err(|_| "runtime-exec: --hostname is not UTF-8"))
        .transpose()?;
    Ok(Invocation {
        cgroup: cgroup.ok_or("runtime-exec: --cgroup is missing")?.into(),
        netns: netns.map(Into::into),
        hostname,
        workdir: workdir.map(Into::into),
        command,
    })
}

/// Returns only on failure, with the reason.
fn become_command(invocation: &Invocation) -> String {
    if let Err(message) = enter(invocation) {
        return message;
    }
    let Some((program, args)) = invocation.command.split_first() else {
        return "no command".to_owned();
    };
    let error = Command::new(program).args(args).exec();
    // Worded as runc does, since people search for it.
    let reason = match error.raw_os_error() {
        Some(ENOENT) if !program.to_string_lossy().contains('/') => {
            "executable file not found in $PATH".to_owned()
        }
        _ => errno_text(&error),
    };
    format!("exec: {program:?}: {reason}")
}

fn enter(invocation: &Invocation) -> Result<(), String> {
    Cgroup::at(&invocation.cgroup).join().map_err(|error| describe(&error))?;
    if let Some(path) = &invocation.netns {
        let failed = |error: io::Error| format!("enter network namespace {path:?}: {error}");
        let file = File::open(path).map_err(failed)?;
        setns(&file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
    }
    if let Some(name) = &invocation.hostname {
        unshare(CloneFlags::CLONE_NEWUTS)
            .and_then(|()| nix::unistd::sethostname(name))
            .map_err(|errno| format!("set host name {name:?}: {errno}"))?;
    }
    if let Some(path) = &invocation.workdir {
        std::env::set_current_dir(path)
            .map_err(|error| format!("chdir to cwd ({path:?}): {}", errno_text(&error)))?;
    }
    // Out of the kubelet's session, so that a Ctrl-C at its terminal is not the container's.
    nix::unistd::setsid().map_err(|errno| format!("setsid: {errno}"))?;
    Ok(())
}

fn describe(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}

fn errno_text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

const ENOENT: i32 = nix::errno::Errno::ENOENT as i32;
/// containerd's exit code of a container that could not start.
const EXIT_NOT_STARTED: u8 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_round_trips() {
        let invocation = Invocation {
            cgroup: "/sys/fs/cgroup/pintle/x".into(),
            netns: Some("/run/netns/a b".into()),
            hostname: Some("web-0".to_owned()),
            workdir: None,
            command: vec!["sh".into(), "-c".into(), "--".into(), "--cgroup".into()],
        };
        assert_eq!(parse(arguments(&invocation)), Ok(invocation));
    }

    #[test]
    fn a_wrong_command_line_names_what_is_wrong() {
        let parse = |args: &[&str]| parse(args.iter().map(OsString::from)).unwrap_err();
        assert_eq!(parse(&[]), "runtime-exec: expected -- and a command");
        assert_eq!(parse(&["--", "true"]), "runtime-exec: --cgroup is missing");
        assert_eq!(parse(&["--cgroup", "/x", "--"]), "runtime-exec: no command after --");
        assert_eq!(parse(&["--cgroup"]), "runtime-exec: \"--cgroup\" needs a value");
        assert_eq!(parse(&["--frob", "1"]), "runtime-exec: unknown argument \"--frob\"");
    }
}
