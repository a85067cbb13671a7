//! Addresses of servers: `http` or `https`, and where a key may go.

use reqwest::Url;
use std::{fmt, net::IpAddr, str::FromStr};

/// Where a server is: without a name and password, and without a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address(Url);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("{error}; http://HOST:PORT?"))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("found {}, allowed are http and https", url.scheme()));
        }
        // Whatever is in there, it is not for the screen.
        if !url.username().is_empty() || url.password().is_some() {
            return Err("no name and password in it: keys come from --key-file".into());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("no '?' and '#' in it: it is the server's, not a page's".into());
        }
        Ok(Self(url))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

impl Address {
    /// Something below this address. Each part is one segment, whatever is in it.
    pub(crate) fn join(&self, path: &[&str]) -> Url {
        let mut url = self.0.clone();
        // Addresses of http always have a path.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path);
        }
        url
    }

    /// Whether it is on this machine.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.0.host_str().unwrap_or_default();
        let ip = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        match ip {
            Ok(ip) => ip.to_canonical().is_loopback(),
            Err(_) => host == "localhost",
        }
    }

    /// Whether nobody on the way can read a key.
    pub(crate) fn is_safe_for_keys(&self) -> bool {
        self.0.scheme() == "https" || self.is_loopback()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_go_over_tls_or_nowhere_else() {
        for (text, safe) in [
            ("http://127.0.0.1:8000", true),
            ("http://127.8.9.1", true),
            ("http://[::1]:8000", true),
            ("http://[::ffff:127.0.0.1]:8000", true),
            ("http://localhost:8000/", true),
            ("http://LOCALHOST:8000/", true),
            ("https://fuelbox.example", true),
            ("http://fuelbox.example", false),
            ("http://localhost.example", false),
            ("http://10.0.0.1", false),
            ("http://0.0.0.0:8000", false),
            ("http://[::]:8000", false),
            ("http://127.0.0.1.example", false),
        ] {
            let address: Address = text.parse().expect(text);
            assert_eq!(address.is_safe_for_keys(), safe, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_server_is_refused() {
        for text in [
            "",
            "127.0.0.1:8000",
            "ftp://a",
            "http://",
            "http://user@a",
            "http://user:word@a",
            "http://a?b",
            "http://a#b",
            "file:///a",
        ] {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn names_stay_one_segment() {
        let address: Address = "http://a/below/".parse().expect("address");
        let url = address.join(&["v2", "models", "../x y/?z"]);
        assert_eq!(url.as_str(), "http://a/below/v2/models/..%2Fx%20y%2F%3Fz");
        assert_eq!(address.to_string(), "http://a/below");
    }
}
