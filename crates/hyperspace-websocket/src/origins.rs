//! Whose pages may connect.

use std::{net::IpAddr, str::FromStr};

use thiserror::Error;

/// The origins (RFC 6454) of pages that may connect.
///
/// Programs send no `Origin` and are not kept out by this. Pages from this machine, of any port, are taken; those of
/// other origins only when they are named. A page's origin is what the browser found in its address bar: a name that
/// somebody points at 127.0.0.1 is still that name, so comparing it with the header `Host` would keep nobody out.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    named: Vec<String>,
    all: bool,
}

impl Origins {
    /// Pages from this machine, and those of these origins: `https://example.org`, `null` for files and sandboxes, `*`
    /// for all.
    pub fn new<T: AsRef<str>>(named: impl IntoIterator<Item = T>) -> Result<Self, OriginError> {
        let mut origins = Self::default();
        for name in named {
            let name = name.as_ref();
            if name == "*" {
                origins.all = true;
            } else if name == "null" || parts(name).is_some() {
                origins.named.push(name.to_ascii_lowercase());
            } else {
                return Err(OriginError { given: name.into() });
            }
        }
        Ok(origins)
    }

    /// Whether a page of this origin may connect.
    pub fn allow(&self, origin: &str) -> bool {
        self.all
            || self.named.iter().any(|named| named.eq_ignore_ascii_case(origin))
            || parts(origin).is_some_and(|(scheme, host)| {
                matches!(&*scheme.to_ascii_lowercase(), "http" | "https") && is_this_machine(host)
            })
    }
}

impl FromStr for Origins {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new([text])
    }
}

/// It cannot be the origin of a page.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "`{given}` is not an origin; give SCHEME://HOST[:PORT] without a path, such as https://example.org, or `null`, or `*`"
)]
pub struct OriginError {
    /// What was given.
    given: String,
}

/// Scheme and host of an origin.
fn parts(origin: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = origin.split_once("://")?;
    let end = match rest.strip_prefix('[') {
        Some(six) => six.find(']')? + 2,
        None => rest.find(':').unwrap_or(rest.len()),
    };
    let (host, port) = rest.split_at_checked(end)?;
    let port_is_one = port.is_empty() || port.strip_prefix(':').is_some_and(|p| p.parse::<u16>().is_ok());
    let host_is_one = !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._[]:".contains(&byte));
    let scheme_is_one = !scheme.is_empty()
        && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
    (port_is_one && host_is_one && scheme_is_one).then_some((scheme, host))
}

fn is_this_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pages_of_this_machine_are_taken_and_others_not() {
        let origins = Origins::default();
        for ours in [
            "http://localhost",
            "http://localhost:8080",
            "https://LOCALHOST:1",
            "http://127.0.0.1:9001",
            "http://127.1.2.3",
            "http://[::1]:80",
        ] {
            assert!(origins.allow(ours), "{ours}");
        }
        for theirs in [
            "null",
            "",
            "*",
            "localhost",
            "file://",
            "http://evil.example",
            "http://localhost.evil.example",
            "http://127.0.0.1.evil.example:80",
            "http://127.0.0.1@evil.example",
            "http://evil.example#localhost",
            "http://localhost/path",
            "http://localhost:port",
            "http://localhost:80:80",
            "ftp://localhost",
            "chrome-extension://localhost",
            "http://0.0.0.0:80",
            "http://[::1",
            "http://[::1]evil:80",
            "http://192.168.1.1",
            "http://localhost, http://evil.example",
        ] {
            assert!(!origins.allow(theirs), "{theirs}");
        }
    }

    #[test]
    fn named_ones_are_taken_exactly() {
        let origins = Origins::new(["https://App.example:8443", "null"]).unwrap();
        assert!(origins.allow("https://app.example:8443") && origins.allow("null"));
        for other in ["http://app.example:8443", "https://app.example", "https://x.app.example:8443"] {
            assert!(!origins.allow(other), "{other}");
        }
        assert!("*".parse::<Origins>().unwrap().allow("http://anywhere.example"));
        for wrong in ["app.example", "https://app.example/", "https://", "://x", "https://a b", ""] {
            assert!(Origins::new([wrong]).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_origin_is_survived(text in "\\PC{0,40}", tail in "(http://)?[\\[\\]:a1./@]{0,20}") {
            Origins::default().allow(&text);
            Origins::default().allow(&tail);
            let _ = Origins::new([text, tail]);
        }
    }
}
