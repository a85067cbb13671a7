//! `fuelbox serve`: the data folder as a service over HTTP and gRPC.

use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, Result},
};
use fuelbox_jobs::{Host, NewAccessKey, Scope};
use fuelbox_ledger::ParseAccountIdError;
use fuelbox_server::{ServeError, Server, TlsFiles};
use std::{
    io::{self, Write},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

const EXAMPLES: &str = "\
Examples:
  fuelbox serve --data ./data
  fuelbox serve --data /var/lib/fuelbox --http 0.0.0.0:8000 --tls-cert cert.pem --tls-key key.pem
";

/// Serve models over HTTP and gRPC: the Open Inference Protocol, and fuelbox's own API.
///
/// The first start on a data folder makes an operator's access key and prints it, once.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Listen here for HTTP. Port 0 is any that is free.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8000")]
    http: SocketAddr,

    /// Listen here for gRPC.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8001")]
    grpc: SocketAddr,

    /// Listen here for metrics and health, without keys.
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8002")]
    metrics: SocketAddr,

    /// Certificate chain for TLS, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// Private key of the certificate, in PEM.
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// Let keys travel in the clear beyond this machine: behind something that does TLS.
    #[arg(long)]
    insecure: bool,

    /// Run this many jobs at once; as many as there are cores when not given.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,

    /// Let running jobs go on for this many seconds when told to stop.
    #[arg(long, value_name = "SECONDS", default_value_t = 20)]
    grace: u64,
}

/// Runs the command.
pub(crate) fn serve(args: ServeArgs, global: &Global) -> Result<Exit> {
    let folder = data::place(global)?;
    let mut config = fuelbox_server::Config {
        http: args.http,
        grpc: args.grpc,
        metrics: args.metrics,
        insecure: args.insecure,
        tls: args
            .tls_cert
            .zip(args.tls_key)
            .map(|(certificates, key)| TlsFiles { certificates, key }),
        ..fuelbox_server::Config::default()
    };
    config.limits.grace = Duration::from_secs(args.grace);
    // Ports first: a second server is told so before it touches anything.
    let server = Server::bind(config).map_err(of_serve)?;
    let host = data::open(global, &folder, args.workers)?.host;
    let host = Arc::new(host);
    let addresses = server.addresses();
    let mut text = String::new();
    if let Some(key) = first_key(&host)? {
        text = format!("operator key: {key}\n");
    }
    text.push_str(&format!(
        "HTTP {}\ngRPC {}\nmetrics {}\n",
        addresses.http, addresses.grpc, addresses.metrics
    ));
    let mut out = io::stdout().lock();
    // A reader that went away does not stop a server.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    drop(out);
    server.run(host, folder).map_err(of_serve)?;
    Ok(Exit::Completed)
}

/// The key of a data folder that has none.
fn first_key(host: &Host) -> Result<Option<String>> {
    let access = host.access();
    if !access.list(None)?.is_empty() {
        return Ok(None);
    }
    let operator = "operator"
        .parse()
        .map_err(|error: ParseAccountIdError| Failure::message(Exit::Host, error))?;
    let wanted = NewAccessKey {
        name: Some("first operator key".into()),
        ..NewAccessKey::new(operator, Scope::Operator)
    };
    let (_, secret) = access.create(wanted).map_err(|error| Failure::message(Exit::Host, error))?;
    Ok(Some(secret.to_string()))
}

fn of_serve(error: ServeError) -> Failure {
    let exit = match &error {
        ServeError::Config(_) => Exit::Usage,
        ServeError::Tls(_) => Exit::BadInput,
        ServeError::Bind { .. } | ServeError::Io(_) => Exit::Host,
    };
    Failure::message(exit, error)
}
