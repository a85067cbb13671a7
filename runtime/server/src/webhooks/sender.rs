//! Sending: one POST to a receiver, and what came of it.
//!
//! A name is looked up once, each of its addresses is looked at, and one of those is connected to: there
//! is no second look that could find another. Nothing is followed, and no proxy asked.

use super::{address::is_public, url::check_url};
use reqwest::{
    Client, Response,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect::Policy,
};
use std::{
    error::Error,
    net::{IpAddr, SocketAddr},
    time::Duration,
};
use tokio::{net::lookup_host, time::timeout};

/// From the look-up of the name to the last byte of the answer.
const TIME_MAX: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read: it says nothing that is listened to.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// What is sent.
pub(super) struct Message {
    pub(super) id: String,
    pub(super) timestamp_s: u64,
    pub(super) signature: String,
    pub(super) body: Vec<u8>,
}

/// Why a message did not arrive.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    Url(#[from] super::url::UrlError),
    #[error("the receiver answered with status {0}")]
    Status(u16),
    #[error("no answer within {} s", TIME_MAX.as_secs())]
    Late,
    #[error("{0}")]
    Lost(String),
}

impl SendError {
    /// Whether the receiver seems not to be there at all.
    pub(super) fn is_silence(&self) -> bool {
        match self {
            Self::Late | Self::Lost(_) => true,
            Self::Url(_) | Self::Status(_) => false,
        }
    }
}

/// Writes to receivers.
pub(super) struct Sender {
    client: Client,
    insecure: bool,
}

impl Sender {
    /// A sender. `insecure` lets it write to any address, without TLS.
    pub(super) fn new(insecure: bool) -> Result<Self, reqwest::Error> {
        // The one provider of this program. Another part of it may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder()
            .tls_backend_rustls()
            .https_only(!insecure)
            .redirect(Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .pool_max_idle_per_host(0)
            .http1_only()
            .user_agent(concat!("fuelbox/", env!("CARGO_PKG_VERSION")))
            .dns_resolver(Checked { insecure });
        Ok(Self { client: client.build()?, insecure })
    }

    /// Sends a message; gives the receiver's status.
    pub(super) async fn send(&self, url: &str, message: Message) -> Result<u16, SendError> {
        let url = check_url(url, self.insecure)?;
        let request = self
            .client
            .post(url)
            .header("content-type", "application/json")
            .header("webhook-id", message.id)
            .header("webhook-timestamp", message.timestamp_s)
            .header("webhook-signature", message.signature)
            .body(message.body);
        let exchange = async {
            let response = request.send().await.map_err(|error| lost(&error))?;
            let status = response.status();
            drain(response).await;
            Ok::<_, SendError>(status)
        };
        let status = timeout(TIME_MAX, exchange).await.map_err(|_| SendError::Late)??;
        if status.is_success() {
            Ok(status.as_u16())
        } else {
            Err(SendError::Status(status.as_u16()))
        }
    }
}

/// Reads an answer to its end, unless it is long: whoever sent it need not see a broken connection.
async fn drain(mut response: Response) {
    let mut left = ANSWER_BYTES_MAX;
    while let Ok(Some(piece)) = response.chunk().await {
        match left.checked_sub(piece.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The innermost reason: those around it name the URL, which may have a secret in it.
fn lost(error: &reqwest::Error) -> SendError {
    let mut cause: &dyn Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    SendError::Lost(cause.to_string())
}

/// Looks names up, and gives none of the addresses if one of them is not public.
struct Checked {
    insecure: bool,
}

impl Resolve for Checked {
    fn resolve(&self, name: Name) -> Resolving {
        let insecure = self.insecure;
        Box::pin(async move {
            let found: Vec<SocketAddr> = lookup_host((name.as_str(), 0)).await?.collect();
            check_all(&found, insecure)?;
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// A name that leads into the host's own network, or nowhere.
#[derive(Debug, thiserror::Error)]
#[error("the receiver's name leads to {0}, which is not public")]
struct NotPublic(IpAddr);

fn check_all(found: &[SocketAddr], insecure: bool) -> Result<(), NotPublic> {
    let bad = found.iter().find(|address| !insecure && !is_public(address.ip()));
    match bad {
        None => Ok(()),
        Some(bad) => Err(NotPublic(bad.ip())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_private_address_among_public_ones_is_enough_to_refuse_a_name() {
        let at = |text: &str| -> SocketAddr { text.parse().expect(text) };
        let (public, private) = (at("1.1.1.1:0"), at("[::ffff:10.0.0.1]:0"));
        assert!(check_all(&[public], false).is_ok());
        assert!(check_all(&[public, private], true).is_ok());
        let error = check_all(&[public, private], false).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "the receiver's name leads to ::ffff:10.0.0.1, which is not public"
        );
    }

    #[tokio::test]
    async fn a_name_that_leads_to_this_host_is_not_connected_to() {
        // The name passes the look at the URL's text only when told so: here the second look alone.
        let resolved = Checked { insecure: false }.resolve("localhost".parse().expect("a name"));
        let error = resolved.await.err().expect("refused").to_string();
        assert!(error.contains("which is not public"), "{error}");
        let allowed = Checked { insecure: true }.resolve("localhost".parse().expect("a name"));
        assert!(allowed.await.is_ok());
    }
}
