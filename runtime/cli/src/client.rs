//! A server, as its clients have it: an address, a key, and requests that are sent again where that is
//! safe.
//!
//! Arguments become a [`Remote`]; a [`Remote`] and a request become an [`Answer`], or a failure with
//! the exit code that the same thing has without a server. Knows nothing of models and packages.

mod address;
mod key;
mod retry;
mod refused;
mod slow;

pub(crate) use address::Address;
pub(crate) use refused::Refused;
pub(crate) use retry::Trouble;
pub(crate) use slow::LetGo;

use crate::{
    data,
    exit::{Exit, Failure, OrExit, Result},
    file,
    progress::Verbosity,
    units,
};
use key::Key;
use reqwest::{
    Certificate, StatusCode, Url,
    blocking::{Client, RequestBuilder},
    header::{AUTHORIZATION, HeaderMap, HeaderValue},
    redirect::Policy,
};
use retry::Patience;
use std::{io::Read, path::PathBuf, time::Duration};

/// Which server, and who asks.
#[derive(clap::Args, Debug)]
pub(crate) struct ServerArgs {
    /// The server.
    #[arg(
        long,
        value_name = "URL",
        env = "FUELBOX_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:8000"
    )]
    pub(crate) url: Address,

    /// File with the access key; otherwise it is that of the variable FUELBOX_KEY.
    #[arg(long, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,

    /// Certificates to trust instead of the system's, as PEM.
    #[arg(long, value_name = "FILE.pem")]
    pub(crate) ca: Option<PathBuf>,

    /// Send the key in the clear to another machine.
    #[arg(long)]
    pub(crate) insecure: bool,

    /// Send a request again this often when the server is busy or the connection breaks.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub(crate) retries: u32,

    /// Most time for one answer, sending the request included.
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::duration)]
    pub(crate) timeout: Duration,
}

/// A server that requests can be sent to.
pub(crate) struct Remote {
    client: Client,
    /// The key, which the client has, too.
    bearer: Option<HeaderValue>,
    address: Address,
    patience: Patience,
    verbosity: Verbosity,
}

/// What a server answered, when it did what it was asked.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Until somebody answers at all.
const CONNECT_TIME: Duration = Duration::from_secs(10);

/// Between two signs of life on a connection over which nothing goes: jobs take minutes, and what is
/// between us forgets silent connections after some.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

/// Bytes of a file of certificates: all that systems trust take 250 kB.
const CA_BYTES_MAX: u64 = 4 << 20;

/// Bytes of a JSON document: a page of a list.
const DOCUMENT_BYTES_MAX: u64 = 16 << 20;

impl ServerArgs {
    /// Reads the files and makes ready; nothing is sent.
    pub(crate) fn remote(&self, verbosity: Verbosity) -> Result<Remote> {
        let key = Key::find(self.key_file.as_deref(), verbosity)?;
        if key.is_some() && !self.insecure && !self.url.is_safe_for_keys() {
            let text = format!(
                "{}: the key would travel in the clear; use https, or --insecure",
                self.url
            );
            return Err(Failure::message(Exit::Usage, text));
        }
        let mut headers = HeaderMap::new();
        let bearer = key.as_ref().map(Key::bearer);
        if let Some(bearer) = &bearer {
            headers.insert(AUTHORIZATION, bearer.clone());
        }
        // There is one for the whole process; a second time it is there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut client = Client::builder()
            .user_agent(concat!("fuelbox/", env!("CARGO_PKG_VERSION")))
            .default_headers(headers)
            // A key goes where it was sent, and nowhere else.
            .redirect(Policy::none())
            .connect_timeout(CONNECT_TIME)
            .tcp_keepalive(KEEP_ALIVE)
            .timeout(self.timeout);
        if self.url.is_loopback() {
            // What is on this machine is not asked for by way of another.
            client = client.no_proxy();
        }
        if let Some(path) = &self.ca {
            client = client.tls_certs_only(certificates(path)?);
        }
        let client = client.build().map_err(|error| {
            let text = retry::words(&error);
            Failure::message(Exit::Host, format!("client: {text}"))
        })?;
        let patience = Patience { retries: self.retries, in_flight: self.timeout };
        Ok(Remote { client, bearer, address: self.url.clone(), patience, verbosity })
    }
}

fn certificates(path: &std::path::Path) -> Result<Vec<Certificate>> {
    let bytes = file::read(path, CA_BYTES_MAX).or_exit(Exit::BadInput)?;
    let named = |text: &str| {
        let text = format!("{}: {text}", path.display());
        Failure::message(Exit::BadInput, text)
    };
    let found = Certificate::from_pem_bundle(data::text(path, bytes)?.as_bytes())
        .map_err(|_| named("not certificates in PEM"))?;
    if found.is_empty() {
        return Err(named("no certificate in it"));
    }
    Ok(found)
}

impl Remote {
    /// The address of something on the server: each part of the path is one segment.
    pub(crate) fn url(&self, path: &[&str]) -> Url {
        self.address.join(path)
    }

    /// What names the server in files of ours.
    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Sends a request until it is answered, or it makes no sense to send it again. Whoever calls this
    /// says with it that the request may arrive twice.
    pub(crate) fn send(
        &self,
        answer_bytes_max: u64,
        request: impl Fn(&Client) -> Result<RequestBuilder>,
    ) -> Result<Answer, Trouble> {
        let mut waits = self.patience.start();
        loop {
            let trouble = match self.send_once(answer_bytes_max, &request) {
                Ok(answer) => return Ok(answer),
                Err(trouble) => trouble,
            };
            let Some(pause) = waits.next(&trouble) else {
                return Err(trouble);
            };
            let pause_text = units::show_duration(pause);
            self.verbosity.note(format_args!("{trouble}; again in {pause_text}"));
            std::thread::sleep(pause);
        }
    }

    /// Sends a request once.
    pub(crate) fn send_once(
        &self,
        answer_bytes_max: u64,
        request: impl Fn(&Client) -> Result<RequestBuilder>,
    ) -> Result<Answer, Trouble> {
        let mut response = request(&self.client).map_err(Trouble::Own)?.send()?;
        let (status, headers) = (response.status(), response.headers().clone());
        let mut body = Vec::new();
        let mut limited = response.by_ref().take(answer_bytes_max.saturating_add(1));
        limited.read_to_end(&mut body).map_err(Trouble::Cut)?;
        if body.len() as u64 > answer_bytes_max {
            let text = format!("the server's answer has over {answer_bytes_max} bytes");
            return Err(Trouble::Own(Failure::message(Exit::Limit, text)));
        }
        if status.is_success() {
            return Ok(Answer { status, headers, body });
        }
        Err(Trouble::Refused(Box::new(Refused::read(status, headers, &body))))
    }

    /// The document at a path.
    pub(crate) fn get(&self, path: &[&str]) -> Result<Answer, Trouble> {
        let url = self.url(path);
        self.send(DOCUMENT_BYTES_MAX, |client| Ok(client.get(url.clone())))
    }

    /// Sends a document, and gives the one that comes back.
    pub(crate) fn post(
        &self,
        path: &[&str],
        document: &impl serde::Serialize,
    ) -> Result<Answer, Trouble> {
        let url = self.url(path);
        self.send(DOCUMENT_BYTES_MAX, |client| Ok(client.post(url.clone()).json(document)))
    }
}

impl Answer {
    /// A header; none when it is not there, or no text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.headers, name)
    }

    /// The body as a document.
    pub(crate) fn document<T: serde::de::DeserializeOwned>(&self, what: &str) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            Failure::message(Exit::Host, format!("the server's {what} is not understood: {error}"))
        })
    }
}

pub(crate) fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}
