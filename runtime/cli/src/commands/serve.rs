//! `fuelbox serve`: the data folder as a service over HTTP and gRPC.
//!
//! options -> open ports -> open data folder -> first key -> serve, until told to stop.

mod options;

use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, Result},
};
use fuelbox_jobs::{Host, NewAccessKey, Scope};
use fuelbox_ledger::ParseAccountIdError;
use fuelbox_server::{Addresses, ServeError, Server};
use std::{
    io::{self, Write},
    path::Path,
    sync::Arc,
};

pub(crate) use options::ServeArgs;

/// Runs the command.
pub(crate) fn serve(args: ServeArgs, global: &Global) -> Result<Exit> {
    let folder = data::place(global)?;
    let (format, filter) = args.log();
    let _logs = fuelbox_server::logs(format, filter)
        .map_err(|error| Failure::message(Exit::Usage, error))?;
    let (workers, config) = (args.workers(), args.config());
    let has_tls = config.tls.is_some();
    // Ports first: a second server is told so before it touches anything.
    let server = Server::bind(config).map_err(of_serve)?;
    let host = match data::try_open(global, &folder, workers)? {
        Ok(open) => Arc::new(open.host),
        Err(error) if data::is_locked(&error) => {
            let path = folder.path().display();
            let text =
                format!("{path}: another process works on this data folder: a server, perhaps");
            return Err(Failure::message(Exit::Host, text));
        }
        Err(error) => return Err(error.into()),
    };
    let key = first_key(&host)?;
    let addresses = server.addresses();
    tell_people(global, &addresses, has_tls, folder.path(), key.is_some());
    tell_programs(&addresses, key.as_deref());
    server.run(host, folder).map_err(of_serve)?;
    Ok(Exit::Completed)
}

/// What programs read: one thing a line, the same in every version.
fn tell_programs(addresses: &Addresses, key: Option<&str>) {
    let Addresses { http, grpc, metrics } = addresses;
    let key = key.map_or_else(String::new, |key| format!("operator key: {key}\n"));
    let text = format!("{key}HTTP {http}\ngRPC {grpc}\nmetrics {metrics}\n");
    let mut out = io::stdout().lock();
    // A reader that went away does not stop a server.
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// What people read.
fn tell_people(global: &Global, addresses: &Addresses, has_tls: bool, data: &Path, new_key: bool) {
    let verbosity = global.verbosity();
    let Addresses { http, grpc, metrics } = addresses;
    let scheme = if has_tls { "https" } else { "http" };
    verbosity.note(format_args!(
        "serving {} on {scheme}://{http} (gRPC on {grpc}, metrics on http://{metrics}/metrics)",
        data.display()
    ));
    if new_key {
        verbosity.note("the operator key below is shown this once: keep it");
    }
    verbosity.note("Ctrl-C stops the server in order, a second one at once");
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
    let (_, secret) = access.create(wanted)?;
    Ok(Some(secret.to_string()))
}

fn of_serve(error: ServeError) -> Failure {
    match error {
        ServeError::Config(error) => Failure::message(Exit::Usage, error),
        ServeError::Tls(error) => Failure::message(Exit::BadInput, error),
        ServeError::Bind { name, address, source } if source.kind() == io::ErrorKind::AddrInUse => {
            let text = format!(
                "{name}: another process listens on {address}; choose another port with --{}",
                name.to_lowercase()
            );
            Failure::message(Exit::Host, text)
        }
        error @ (ServeError::Bind { .. } | ServeError::Io(_)) => {
            Failure::message(Exit::Host, error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_is_told_with_its_option() {
        let bind = |name, kind: io::ErrorKind| {
            let address = ([127, 0, 0, 1], 8001).into();
            of_serve(ServeError::Bind { name, address, source: kind.into() }).to_string()
        };
        let text =
            "gRPC: another process listens on 127.0.0.1:8001; choose another port with --grpc";
        assert_eq!(bind("gRPC", io::ErrorKind::AddrInUse), text);
        let text = "HTTP on 127.0.0.1:8001: permission denied";
        assert_eq!(bind("HTTP", io::ErrorKind::PermissionDenied), text);
    }
}
