//! Stands in for the `pintle` binary, of whose subcommands the process runtime needs only this one.
#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    assert_eq!(args.next().as_deref(), Some("runtime-exec".as_ref()));
    ExitCode::from(pintle_kubelet::runtime::process::shim::main(args))
}
