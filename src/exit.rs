//! Errors to one line on standard error, and an exit code.

use std::error::Error as _;
use std::process::ExitCode;

use pintle_component::ConfigurationError;

/// A value on the command line or in a configuration file is wrong (`EX_USAGE` of sysexits.h).
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct UsageError(pub(crate) String);

impl From<ConfigurationError> for UsageError {
    fn from(error: ConfigurationError) -> Self {
        match error.source() {
            Some(source) => Self(format!("{error}: {source}")),
            None => Self(error.to_string()),
        }
    }
}

/// Print the error and its causes on one line and say how to exit.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    eprintln!("pintle: {}", chain(error));
    ExitCode::from(if error.is::<UsageError>() { EX_USAGE } else { 1 })
}

fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    let mut cause: Option<&dyn std::error::Error> = error.source();
    while let Some(source) = cause {
        let message = source.to_string();
        // Some libraries repeat their source in their own message.
        if !text.ends_with(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = source.source();
    }
    text.replace('\n', " ")
}

const EX_USAGE: u8 = 64;

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn causes_are_joined_once() {
        let inner = std::io::Error::other("disk on fire");
        let error = anyhow::Error::new(inner).context("write the log").context("open the store");
        assert_eq!(chain(&error), "open the store: write the log: disk on fire");
    }

    #[test]
    fn usage_errors_have_their_own_code() {
        let error = anyhow::Error::new(UsageError("--nodes: at most 250".to_owned()));
        assert_eq!(report(&error), ExitCode::from(64));
        let other: anyhow::Result<()> = Err(anyhow::anyhow!("x")).context("y");
        assert_eq!(report(&other.unwrap_err()), ExitCode::from(1));
    }
}
