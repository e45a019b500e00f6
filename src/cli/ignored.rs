//! Flags of an upstream component that are taken and change nothing, so that a command line written
//! for it starts.

use clap::{Arg, ArgAction, ArgMatches, Command};

/// A flag's name, and whether it takes a value.
pub(super) type IgnoredFlag = (&'static str, bool);

/// Take these flags, without showing them.
pub(super) fn augment(command: Command, flags: &[IgnoredFlag]) -> Command {
    command.args(flags.iter().map(|&(name, takes_value)| {
        let arg = Arg::new(name).long(name).hide(true).action(ArgAction::Append);
        if takes_value {
            return arg.allow_hyphen_values(true);
        }
        arg.num_args(0..=1).require_equals(true).default_missing_value("true")
    }))
}

/// Those that were given.
pub(super) fn given(matches: &ArgMatches, flags: &[IgnoredFlag]) -> Vec<&'static str> {
    let names = flags.iter().map(|(name, _)| *name);
    names.filter(|name| matches.contains_id(name)).collect()
}

/// `strconv.ParseBool`.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        other => Err(format!("{other:?} is neither true nor false")),
    }
}
