//! URLs of receivers: looked at when a job is submitted, and again before each delivery.

use super::address::is_public;
use reqwest::Url;
use std::net::IpAddr;

/// Characters of a URL: what proxies and servers take.
const CHARS_MAX: usize = 2_000;

/// Below these, ports are those of services that are no receivers: mail, names, files.
const PORT_MIN: u16 = 1_024;

/// Why a URL is no receiver's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    #[error("webhook: URL of {found} characters, allowed are {CHARS_MAX}")]
    Long { found: usize },
    #[error("webhook: the URL is malformed: {0}")]
    Malformed(String),
    #[error("webhook: scheme '{found}', allowed is {allowed}")]
    Scheme { found: String, allowed: &'static str },
    #[error("webhook: the URL has a user or a password; a signature says who sends")]
    User,
    #[error("webhook: port {found}, allowed are 80, 443 and those from {PORT_MIN}")]
    Port { found: u16 },
    #[error("webhook: address {found} is not a public one")]
    Address { found: IpAddr },
    #[error("webhook: host '{found}' is a name of this network")]
    Local { found: String },
}

/// Whether a URL may be a receiver's. `insecure` allows `http`, and addresses that are not public.
pub(crate) fn check_url(text: &str, insecure: bool) -> Result<Url, UrlError> {
    let found = text.chars().count();
    if found > CHARS_MAX {
        return Err(UrlError::Long { found });
    }
    let url = Url::parse(text).map_err(|error| UrlError::Malformed(error.to_string()))?;
    match url.scheme() {
        "https" => {}
        "http" if insecure => {}
        other => {
            let found = crate::refusal::excerpt(other);
            let allowed = if insecure { "https or http" } else { "https" };
            return Err(UrlError::Scheme { found, allowed });
        }
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(UrlError::User);
    }
    let port = url.port_or_known_default().unwrap_or_default();
    if !(port == 80 || port == 443 || port >= PORT_MIN) {
        return Err(UrlError::Port { found: port });
    }
    let host = url.host_str().unwrap_or_default();
    if insecure {
        return Ok(url);
    }
    match literal(host) {
        Some(address) if !is_public(address) => Err(UrlError::Address { found: address }),
        Some(_) => Ok(url),
        None if is_local(host) => Err(UrlError::Local { found: crate::refusal::excerpt(host) }),
        None => Ok(url),
    }
}

/// An address that stands in a URL in place of a name. URLs have one form of them: the parser has made
/// `0x7f.1` and its like into it.
fn literal(host: &str) -> Option<IpAddr> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    bare.unwrap_or(host).parse().ok()
}

/// Names that no public server has.
fn is_local(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let suffixes = ["localhost", "local", "internal", "home.arpa", "lan"];
    let ends = |suffix: &&str| {
        host.strip_suffix(*suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    !host.contains('.') || suffixes.iter().any(ends)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        check_url(text, false).map_or_else(|error| error.to_string(), |_| "fits".into())
    }

    #[test]
    fn receivers_are_public_and_behind_tls() {
        for text in [
            "https://example.com/hook?a=b",
            "https://example.com:8443/",
            "https://93.184.215.14/",
            "https://[2606:4700:4700::1111]/",
        ] {
            assert_eq!(check(text), "fits", "{text}");
        }
        for (text, expected) in [
            ("", "webhook: the URL is malformed: relative URL without a base"),
            ("http://example.com/", "webhook: scheme 'http', allowed is https"),
            ("ftp://example.com/", "webhook: scheme 'ftp', allowed is https"),
            ("file:///etc/passwd", "webhook: scheme 'file', allowed is https"),
            (
                "https://u:p@example.com/",
                "webhook: the URL has a user or a password; a signature says who sends",
            ),
            (
                "https://example.com:25/",
                "webhook: port 25, allowed are 80, 443 and those from 1024",
            ),
            ("https://127.0.0.1/", "webhook: address 127.0.0.1 is not a public one"),
            ("https://0x7f.1/", "webhook: address 127.0.0.1 is not a public one"),
            ("https://2130706433/", "webhook: address 127.0.0.1 is not a public one"),
            ("https://[::1]/", "webhook: address ::1 is not a public one"),
            ("https://[::ffff:10.0.0.1]/", "webhook: address ::ffff:10.0.0.1 is not a public one"),
            ("https://localhost/", "webhook: host 'localhost' is a name of this network"),
            ("https://a.LOCALHOST./", "webhook: host 'a.localhost.' is a name of this network"),
            ("https://metadata/", "webhook: host 'metadata' is a name of this network"),
            (
                "https://metadata.google.internal/",
                "webhook: host 'metadata.google.internal' is a name of this network",
            ),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
        let long = format!("https://example.com/{}", "a".repeat(CHARS_MAX));
        assert_eq!(check(&long), "webhook: URL of 2020 characters, allowed are 2000");
    }

    #[test]
    fn closed_networks_may_have_receivers_of_their_own() {
        for text in ["http://127.0.0.1:9000/", "http://localhost/", "https://10.0.0.1/"] {
            assert!(check_url(text, true).is_ok(), "{text}");
        }
        for text in ["http://127.0.0.1:25/", "ftp://localhost/", "http://a:b@localhost/"] {
            assert!(check_url(text, true).is_err(), "{text}");
        }
    }
}
