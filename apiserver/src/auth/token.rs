//! Static bearer tokens, as kube-apiserver's `--token-auth-file`.

use std::collections::HashMap;
use std::path::Path;

use http::{HeaderMap, header};

use super::UserInfo;
use crate::Error;

/// Users by their tokens.
#[derive(Default)]
pub(crate) struct Tokens(HashMap<String, UserInfo>);

impl Tokens {
    pub(crate) fn read(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else { return Ok(Self::default()) };
        let failed = |source| Error::TokenRead { path: path.to_path_buf(), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let mut tokens = HashMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong = || Error::TokenLine { path: path.to_path_buf(), line: index + 1 };
            let (token, user) = parse(line).ok_or_else(wrong)?;
            tokens.insert(token, user);
        }
        Ok(Self(tokens))
    }

    /// Whose token this is.
    pub(crate) fn user(&self, token: &str) -> Option<UserInfo> {
        self.0.get(token).cloned()
    }

    /// Whose bearer token a request shows.
    pub(crate) fn user_of(&self, headers: &HeaderMap) -> Option<UserInfo> {
        let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, token) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        self.user(token.trim())
    }
}

/// `token,user,uid[,"group1,group2"]`
fn parse(line: &str) -> Option<(String, UserInfo)> {
    let mut fields = line.splitn(4, ',').map(str::trim);
    let (token, name, _uid) = (fields.next()?, fields.next()?, fields.next()?);
    if token.is_empty() || name.is_empty() {
        return None;
    }
    let groups = fields.next().unwrap_or_default().trim_matches('"');
    let groups = groups.split(',').map(str::trim).filter(|group| !group.is_empty());
    Some((token.to_owned(), UserInfo::new(name, groups)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_user() {
        let (token, user) = parse("s3cret,jane,1,\"dev,ops\"").unwrap();
        assert_eq!((token.as_str(), user), ("s3cret", UserInfo::new("jane", ["dev", "ops"])));
        assert_eq!(parse("s3cret,jane"), None);
        assert_eq!(parse(",jane,1"), None);
    }
}
