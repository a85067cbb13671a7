//! What an operator chooses, as arguments and variables.

use crate::units;
use fuelbox_server::{Config, Limits, LogFormat, TlsFiles};
use std::{
    io::{self, IsTerminal},
    net::SocketAddr,
    path::PathBuf,
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  fuelbox serve --data ./data
  fuelbox serve --data /var/lib/fuelbox --http 0.0.0.0:8000 --tls-cert cert.pem --tls-key key.pem

On stdout stands, a line each: `operator key: KEY` (the first time), `HTTP ADDRESS`, `gRPC ADDRESS`,
`metrics ADDRESS`. All else goes to stderr.
";

/// Serve models over HTTP and gRPC: the Open Inference Protocol, and fuelbox's own API.
///
/// The first start on a data folder makes an operator's access key and prints it, once. SIGTERM or
/// Ctrl-C stops the server in order: no new jobs, those that run may end within the grace time, those
/// that are broken off cost nothing. A second Ctrl-C stops it at once.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Listen here for HTTP. Port 0 is any that is free.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "FUELBOX_HTTP",
        default_value = "127.0.0.1:8000"
    )]
    http: SocketAddr,

    /// Listen here for gRPC.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "FUELBOX_GRPC",
        default_value = "127.0.0.1:8001"
    )]
    grpc: SocketAddr,

    /// Listen here for metrics and health, without keys.
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        env = "FUELBOX_METRICS",
        default_value = "127.0.0.1:8002"
    )]
    metrics: SocketAddr,

    /// Certificate chain for TLS, in PEM.
    #[arg(long, value_name = "FILE", env = "FUELBOX_TLS_CERT", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", env = "FUELBOX_TLS_KEY", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Let keys travel in the clear beyond this machine: behind something that does TLS.
    #[arg(long)]
    insecure: bool,

    /// Run this many jobs at once [default: as many as there are cores].
    #[arg(long, value_name = "N", env = "FUELBOX_WORKERS", value_parser = parse_workers)]
    workers: Option<usize>,

    #[command(flatten)]
    seeing: SeeingArgs,

    #[command(flatten)]
    limits: LimitArgs,
}

/// What the server says of itself.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Logs and traces")]
struct SeeingArgs {
    /// Form of the lines on stderr [default: text on a terminal, json elsewhere].
    #[arg(long, value_name = "FORM", env = "FUELBOX_LOG")]
    log: Option<LogForm>,

    /// Which lines: a level, and others for some modules, such as warn,fuelbox_server=debug.
    #[arg(long, value_name = "FILTER", env = "FUELBOX_LOG_FILTER", default_value = "info")]
    log_filter: String,

    /// Send traces to this collector (OTLP over gRPC), such as http://127.0.0.1:4317.
    #[arg(long, value_name = "URL", env = "FUELBOX_OTLP")]
    otlp: Option<String>,

    /// The part of requests whose traces are sent, when their callers have not decided: 0 to 1.
    #[arg(long, value_name = "PART", default_value_t = Config::default().otlp_ratio)]
    otlp_ratio: f64,
}

/// Form of log lines.
#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogForm {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// What clients may take. What is not given is the server's default.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// Connections at once, on each port [default: 1024].
    #[arg(long, value_name = "N", value_parser = parse_count)]
    connections: Option<usize>,

    /// Most time from a connection, or an answer, to the next headers [default: 20s].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    header_time: Option<Duration>,

    /// Most time between requests of an HTTP/2 connection [default: 300s].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    idle_time: Option<Duration>,

    /// Most time between two pieces of a body [default: 20s].
    #[arg(long, value_name = "TIME", value_parser = units::duration)]
    body_pause: Option<Duration>,

    /// Bytes of a request's line and headers [default: 32KiB].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    header_bytes: Option<usize>,

    /// Bytes of one request's body, unpacked [default: 64MiB].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    request_bytes: Option<usize>,

    /// Bytes of all bodies that are being received [default: 512MiB].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    bodies_bytes: Option<usize>,

    /// Bytes of all large answers that are being read or sent; half may be one account's [default: 2GiB].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    answers_bytes: Option<usize>,

    /// Bytes of a package [default: 2GiB].
    #[arg(long, value_name = "BYTES", value_parser = units::bytes)]
    package_bytes: Option<u64>,

    /// Requests a second of one key, over time [default: 10000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    key_rate: Option<u32>,

    /// Requests of one key at once, before its rate counts [default: 10000].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    key_burst: Option<u32>,

    /// Jobs of one package that wait or run at once [default: 4096].
    #[arg(long, value_name = "N", value_parser = parse_count)]
    package_jobs: Option<usize>,

    /// Packages that wait to be published; a quarter of them may be one account's [default: 16].
    #[arg(long, value_name = "N", value_parser = parse_count)]
    publishing: Option<usize>,

    /// Let webhooks go to addresses that are not public, and without TLS: for closed networks.
    #[arg(long)]
    webhooks_insecure: bool,

    /// Let running jobs go on for so long when told to stop; a number is seconds [default: 20s].
    #[arg(long, value_name = "TIME", value_parser = parse_grace)]
    grace: Option<Duration>,
}

impl ServeArgs {
    /// Jobs at once; none for as many as there are cores.
    pub(super) fn workers(&self) -> Option<usize> {
        self.workers
    }

    /// Form of log lines, and which.
    pub(super) fn log(&self) -> (LogFormat, &str) {
        let fits = || if io::stderr().is_terminal() { LogForm::Text } else { LogForm::Json };
        let format = match self.seeing.log.unwrap_or_else(fits) {
            LogForm::Json => LogFormat::Json,
            LogForm::Text => LogFormat::Text,
        };
        (format, &self.seeing.log_filter)
    }

    /// What the server is to do.
    pub(super) fn config(self) -> Config {
        let Self { http, grpc, metrics, tls_cert, tls_key, insecure, seeing, limits, .. } = self;
        let tls = tls_cert.zip(tls_key).map(|(certificates, key)| TlsFiles { certificates, key });
        let SeeingArgs { otlp, otlp_ratio, .. } = seeing;
        let limits = limits.limits();
        Config { http, grpc, metrics, tls, insecure, limits, otlp, otlp_ratio }
    }
}

impl LimitArgs {
    fn limits(self) -> Limits {
        let default = Limits::default();
        // Without `..`: a limit that is added gets an option to compile.
        Limits {
            connections: self.connections.unwrap_or(default.connections),
            header_time: self.header_time.unwrap_or(default.header_time),
            idle_time: self.idle_time.unwrap_or(default.idle_time),
            body_pause: self.body_pause.unwrap_or(default.body_pause),
            header_bytes: self.header_bytes.unwrap_or(default.header_bytes),
            request_bytes: self.request_bytes.unwrap_or(default.request_bytes),
            bodies_bytes: self.bodies_bytes.unwrap_or(default.bodies_bytes),
            answers_bytes: self.answers_bytes.unwrap_or(default.answers_bytes),
            package_bytes: self.package_bytes.unwrap_or(default.package_bytes),
            key_rate: self.key_rate.unwrap_or(default.key_rate),
            key_burst: self.key_burst.unwrap_or(default.key_burst),
            package_jobs: self.package_jobs.unwrap_or(default.package_jobs),
            publishing: self.publishing.unwrap_or(default.publishing),
            webhooks_insecure: self.webhooks_insecure,
            grace: self.grace.unwrap_or(default.grace),
        }
    }
}

fn parse_count(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| *count > 0);
    count.ok_or_else(|| format!("'{text}', expected a whole number from 1"))
}

fn parse_workers(text: &str) -> Result<usize, String> {
    parse_count(text)
}

fn parse_bytes(text: &str) -> Result<usize, String> {
    let bytes = usize::try_from(units::bytes(text)?).ok().filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "a number of bytes from 1 was expected".into())
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => units::duration(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, Parser};

    #[derive(clap::Parser)]
    struct Serve {
        #[command(flatten)]
        args: ServeArgs,
    }

    fn limits(arguments: &str) -> Limits {
        let words = std::iter::once("serve").chain(arguments.split_whitespace());
        Serve::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).args.config().limits
    }

    #[test]
    fn what_is_not_given_is_the_servers_default_and_help_says_it() {
        let (found, default) = (limits(""), Limits::default());
        assert_eq!(format!("{found:?}"), format!("{default:?}"));
        let help = Serve::command().render_long_help().to_string();
        for (option, value) in [
            ("connections", default.connections.to_string()),
            ("header-time", format!("{}s", default.header_time.as_secs())),
            ("idle-time", format!("{}s", default.idle_time.as_secs())),
            ("body-pause", format!("{}s", default.body_pause.as_secs())),
            ("header-bytes", format!("{}KiB", default.header_bytes >> 10)),
            ("request-bytes", format!("{}MiB", default.request_bytes >> 20)),
            ("bodies-bytes", format!("{}MiB", default.bodies_bytes >> 20)),
            ("answers-bytes", format!("{}GiB", default.answers_bytes >> 30)),
            ("package-bytes", format!("{}GiB", default.package_bytes >> 30)),
            ("key-rate", default.key_rate.to_string()),
            ("key-burst", default.key_burst.to_string()),
            ("package-jobs", default.package_jobs.to_string()),
            ("publishing", default.publishing.to_string()),
            ("grace", format!("{}s", default.grace.as_secs())),
        ] {
            let (_, rest) = help.split_once(&format!("--{option} ")).expect(option);
            let (_, rest) = rest.split_once("[default: ").expect(option);
            assert!(rest.starts_with(&format!("{value}]")), "{option}: {value}, help says {rest}");
        }
    }

    #[test]
    fn every_limit_can_be_chosen() {
        let found = limits(
            "--connections 1 --header-time 2s --body-pause 3s --header-bytes 4 --request-bytes 5KiB \
             --bodies-bytes 6MiB --package-bytes 7 --key-rate 8 --key-burst 9 --package-jobs 10 \
             --answers-bytes 13MiB --publishing 11 --webhooks-insecure --grace 12 --idle-time 14s",
        );
        let expected = Limits {
            connections: 1,
            header_time: Duration::from_secs(2),
            idle_time: Duration::from_secs(14),
            body_pause: Duration::from_secs(3),
            header_bytes: 4,
            request_bytes: 5 << 10,
            bodies_bytes: 6 << 20,
            answers_bytes: 13 << 20,
            package_bytes: 7,
            key_rate: 8,
            key_burst: 9,
            package_jobs: 10,
            publishing: 11,
            webhooks_insecure: true,
            grace: Duration::from_secs(12),
        };
        assert_eq!(format!("{found:?}"), format!("{expected:?}"));
        assert_eq!(limits("--grace 500ms").grace, Duration::from_millis(500));
        for refused in ["--connections 0", "--workers 0", "--key-rate 0", "--request-bytes 0"] {
            let words = std::iter::once("serve").chain(refused.split_whitespace());
            assert!(Serve::try_parse_from(words).is_err(), "{refused}");
        }
    }
}
