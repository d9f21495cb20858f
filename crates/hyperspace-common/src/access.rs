//! Access tokens: what a client shows where a file's mode does not say who may come in.

use std::{fmt, str::FromStr};

use thiserror::Error;

/// The environment variable that clients take a token from.
pub const TOKEN_VARIABLE: &str = "HYPERSPACE_TOKEN";
/// The shortest token: 128 bits when it is hexadecimal.
pub const MIN_TOKEN: usize = 32;
/// The longest token.
pub const MAX_TOKEN: usize = 256;

/// A secret that lets a client in. Its text is not shown by `Debug`, so that it is in no log.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessToken(String);

impl AccessToken {
    /// The tokens of a file: one a line; blank lines and those that begin with `#` say nothing.
    pub fn list(text: &str) -> Result<Vec<Self>, AccessTokenError> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let tokens: Vec<Self> = lines.map(str::parse).collect::<Result<_, _>>()?;
        if tokens.is_empty() { Err(AccessTokenError::None) } else { Ok(tokens) }
    }

    /// The token's text. Keep it out of logs.
    pub fn secret(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccessToken {
    type Err = AccessTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // Neither error repeats what was given: it may be all but a good token.
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AccessTokenError::Characters);
        }
        if !(MIN_TOKEN..=MAX_TOKEN).contains(&text.len()) {
            return Err(AccessTokenError::Length { length: text.len() });
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(..)")
    }
}

/// Why there is no token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AccessTokenError {
    /// Tokens are written with printable ASCII.
    #[error("an access token has printable ASCII characters only, and no spaces")]
    Characters,
    /// Too short to be safe, or too long.
    #[error(
        "an access token has {MIN_TOKEN} to {MAX_TOKEN} characters, and this one {length}; `openssl rand -hex 32` \
         makes a good one"
    )]
    Length {
        /// How many it has.
        length: usize,
    },
    /// The file has none.
    #[error("there is no access token in it; a daemon makes one where it finds no such file")]
    None,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_file_may_have_several_and_remarks() {
        let (one, two) = ("a".repeat(64), "B-._~/+=".repeat(4));
        let tokens = AccessToken::list(&format!("# for the page\n\n{one}\r\n  {two}  \n")).unwrap();
        assert_eq!(tokens.iter().map(AccessToken::secret).collect::<Vec<_>>(), [&one, &two]);
        assert_eq!(AccessToken::list("\n# nothing\n"), Err(AccessTokenError::None));
    }

    #[test]
    fn weak_and_strange_ones_are_refused_and_not_repeated() {
        let short = "secret".parse::<AccessToken>().unwrap_err();
        assert_eq!(short, AccessTokenError::Length { length: 6 });
        assert!(!short.to_string().contains("secret"));
        assert!(MAX_TOKEN < 257 && "x".repeat(257).parse::<AccessToken>().is_err());
        for strange in ["ü".repeat(40), "a b".repeat(20), "\u{7f}".repeat(40)] {
            assert_eq!(strange.parse::<AccessToken>(), Err(AccessTokenError::Characters));
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let token: AccessToken = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(format!("{token:?}"), "AccessToken(..)");
    }

    proptest! {
        #[test]
        fn any_text_is_survived(text in ".{0,300}") {
            if let Ok(token) = text.parse::<AccessToken>() {
                prop_assert_eq!(token.secret(), &text);
            }
            let _ = AccessToken::list(&text);
        }
    }
}
