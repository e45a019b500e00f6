//! Flags of an upstream component that are taken and change nothing, so that a command line written
//! for it starts.

use std::marker::PhantomData;

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};
use pintle_api::boolean;

/// A flag's name, and whether it takes a value.
pub(crate) type IgnoredFlag = (&'static str, bool);

/// What every upstream component takes (`k8s.io/component-base`) that has no counterpart here.
const COMMON: [IgnoredFlag; 9] = [
    ("kube-api-content-type", true),
    ("log-flush-frequency", true),
    ("log-json-info-buffer-size", true),
    ("log-json-split-stream", false),
    ("log-text-info-buffer-size", true),
    ("log-text-split-stream", false),
    ("profiling", false),
    ("show-hidden-metrics-for-version", true),
    ("vmodule", true),
];

/// What an upstream component takes that has no counterpart here.
pub(crate) trait IgnoredFlags {
    /// Its own flags, without those that all take.
    const FLAGS: &'static [IgnoredFlag];

    /// All of them.
    fn all() -> impl Iterator<Item = IgnoredFlag> {
        Self::FLAGS.iter().chain(&COMMON).copied()
    }
}

/// Flags that are taken, without being shown, and change nothing.
#[derive(Debug, Default)]
pub(crate) struct IgnoredArgs<F> {
    /// Those that were given.
    pub(crate) given: Vec<&'static str>,
    of: PhantomData<F>,
}

impl<F: IgnoredFlags> FromArgMatches for IgnoredArgs<F> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let names = F::all().map(|(name, _)| name);
        let given = names.filter(|name| matches.contains_id(name)).collect();
        Ok(Self { given, of: PhantomData })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl<F: IgnoredFlags> Args for IgnoredArgs<F> {
    fn augment_args(command: Command) -> Command {
        command.args(F::all().map(|(name, takes_value)| {
            let arg = Arg::new(name).long(name).hide(true).action(ArgAction::Append);
            if takes_value {
                return arg.allow_hyphen_values(true);
            }
            arg.num_args(0..=1).require_equals(true).default_missing_value("true")
        }))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

/// A flag's truth value.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    boolean::parse(text).ok_or_else(|| format!("{text:?} is neither true nor false"))
}
