//! What an operator chooses: where the server listens, and what it takes from strangers.

use crate::seeing::{OtlpError, check_otlp};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Where and how to listen.
#[derive(Clone, Debug)]
pub struct Config {
    /// HTTP: the inference protocol, the API, its page.
    pub http: SocketAddr,
    /// gRPC: the inference protocol.
    pub grpc: SocketAddr,
    /// Metrics and health alone. Without keys: it belongs where only the operator's own machines reach.
    pub metrics: SocketAddr,
    /// Certificate chain and key, in PEM. HTTP and gRPC use them; metrics do not.
    pub tls: Option<TlsFiles>,
    /// Whether keys may travel in the clear beyond this machine.
    pub insecure: bool,
    /// Limits.
    pub limits: Limits,
    /// Where traces go (OTLP over gRPC, `http://HOST:PORT`); nowhere when not given.
    pub otlp: Option<String>,
    /// The part of requests whose traces are sent, when their callers have not decided: 0 to 1.
    pub otlp_ratio: f64,
}

/// Files for TLS.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// Certificates, the server's first.
    pub certificates: PathBuf,
    /// The private key of the first.
    pub key: PathBuf,
}

impl Default for Config {
    /// Ports as inference servers have them, on this machine only.
    fn default() -> Self {
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Self {
            http: local(8000),
            grpc: local(8001),
            metrics: local(8002),
            tls: None,
            insecure: false,
            limits: Limits::default(),
            otlp: None,
            otlp_ratio: 0.01,
        }
    }
}

/// What one client, and all of them, may take.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections at once, on each port.
    pub connections: usize,
    /// From a connection to its first request's last header, TLS included; and between requests.
    pub header_time: Duration,
    /// Between two requests of an HTTP/2 connection; on HTTP/1 that is `header_time`.
    pub idle_time: Duration,
    /// Between two pieces of a body.
    pub body_pause: Duration,
    /// Bytes of the request line and headers.
    pub header_bytes: usize,
    /// Bytes of one request's body, unpacked.
    pub request_bytes: usize,
    /// Bytes of all bodies that are being received, or whose requests are not admitted yet.
    pub bodies_bytes: usize,
    /// Bytes of all large answers that are being read or sent; half of them may be one account's.
    pub answers_bytes: usize,
    /// Bytes of a package.
    pub package_bytes: u64,
    /// Requests a second of one key, over time.
    pub key_rate: u32,
    /// Requests of one key at once, before its rate counts.
    pub key_burst: u32,
    /// Jobs of one package that wait or run and whose callers wait.
    pub package_jobs: usize,
    /// Packages that wait to be published; a quarter of them may be one account's.
    pub publishing: usize,
    /// Whether webhooks may go to addresses that are not public, and without TLS: for closed networks.
    pub webhooks_insecure: bool,
    /// How long jobs may go on once the server is told to stop.
    pub grace: Duration,
}

impl Default for Limits {
    /// For one machine. A thousand connections are as many descriptors as most systems allow; bodies of
    /// 64 MiB hold a batch of a hundred images of 224 x 224; answers of 2 GiB are two of the largest
    /// outputs; 10,000 requests a second are more than one core answers. Clients of gRPC keep a channel open
    /// between calls: one that asks for nothing for 5 minutes opens another when it is told to go.
    fn default() -> Self {
        Self {
            connections: 1_024,
            header_time: Duration::from_secs(20),
            idle_time: Duration::from_secs(300),
            body_pause: Duration::from_secs(20),
            header_bytes: 32 << 10,
            request_bytes: 64 << 20,
            bodies_bytes: 512 << 20,
            answers_bytes: 2 << 30,
            package_bytes: 2 << 30,
            key_rate: 10_000,
            key_burst: 10_000,
            package_jobs: 4_096,
            publishing: 16,
            webhooks_insecure: false,
            grace: Duration::from_secs(20),
        }
    }
}

/// A configuration that is refused.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum ConfigError {
    /// Keys would travel in the clear.
    #[error(
        "{what} would listen on {address} without TLS: keys travel in the clear there; give a certificate, or --insecure"
    )]
    Clear { what: &'static str, address: SocketAddr },
    /// Two services, one port.
    #[error("{a} and {b} would both listen on {address}")]
    SamePort { a: &'static str, b: &'static str, address: SocketAddr },
    /// Traces.
    #[error(transparent)]
    Otlp(#[from] OtlpError),
}

impl Config {
    /// Whether this can be served.
    ///
    /// # Errors
    /// When keys would travel in the clear beyond this machine, and when two services share a port.
    pub fn check(&self) -> Result<(), ConfigError> {
        for (what, address) in [("HTTP", self.http), ("gRPC", self.grpc)] {
            if !address.ip().is_loopback() && self.tls.is_none() && !self.insecure {
                return Err(ConfigError::Clear { what, address });
            }
        }
        // Metrics tell names of models and who is how busy.
        if !self.metrics.ip().is_loopback() && !self.insecure {
            return Err(ConfigError::Clear { what: "metrics", address: self.metrics });
        }
        if let Some(url) = &self.otlp {
            check_otlp(url, self.otlp_ratio)?;
        }
        let all = [("HTTP", self.http), ("gRPC", self.grpc), ("metrics", self.metrics)];
        for (index, &(b, address)) in all.iter().enumerate() {
            let same = all[..index].iter().find(|(_, other)| *other == address);
            // Port 0 is another port each time.
            if let Some(&(a, _)) = same.filter(|_| address.port() != 0) {
                return Err(ConfigError::SamePort { a, b, address });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_never_travel_in_the_clear_unless_told_to() {
        let check = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().map_err(|error| error.to_string())
        };
        let open = |port| SocketAddr::from(([0, 0, 0, 0], port));
        assert_eq!(check(|_| ()), Ok(()));
        let tls = || TlsFiles { certificates: "c".into(), key: "k".into() };
        for (what, change) in [
            ("HTTP", (|c| c.http = SocketAddr::from(([0, 0, 0, 0], 1))) as fn(&mut Config)),
            ("gRPC", |c| c.grpc = SocketAddr::from(([192, 0, 2, 1], 1))),
            ("metrics", |c| c.metrics = SocketAddr::from(([0, 0, 0, 0], 1))),
        ] {
            let error = check(change).unwrap_err();
            assert!(error.starts_with(&format!("{what} would listen on ")), "{error}");
        }
        let config = Config { http: open(1), grpc: open(2), tls: Some(tls()), ..Config::default() };
        assert!(config.check().is_ok());
        let config =
            Config { http: open(1), metrics: open(3), insecure: true, ..Config::default() };
        assert!(config.check().is_ok());
        let config = Config { http: SocketAddr::from(([0; 16], 1)), ..Config::default() };
        assert!(config.check().is_err());
        assert!(check(|c| c.grpc = c.http).is_err());
    }
}
