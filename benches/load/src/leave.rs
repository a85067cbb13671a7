//! Callers that go away: in the middle of a request, or before the answer.

use crate::{answer::Answer, connection::Connection, message::Template, plan::Protocol};
use bytes::Bytes;
use std::{io, net::SocketAddr, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream, time};

/// Sends a request, waits so long, and goes away. The answer, when it came before that.
pub(crate) async fn leave(
    protocol: Protocol,
    address: SocketAddr,
    (template, body): (&Template, Bytes),
    after: Duration,
) -> Option<Answer> {
    // Every second one of REST does not get to the end of its request.
    if protocol != Protocol::Grpc && after.as_micros().is_multiple_of(2) {
        drop(half(address, template, &body, after).await);
        return None;
    }
    // A connection of its own, as it is closed.
    let mut connection = Connection::open(protocol, address).await.ok()?;
    time::timeout(after, connection.ask(template, body)).await.ok()
}

/// The head of a request, and half of its body.
async fn half(
    address: SocketAddr,
    template: &Template,
    body: &Bytes,
    after: Duration,
) -> io::Result<()> {
    let mut text = format!("POST {} HTTP/1.1\r\n", template.uri).into_bytes();
    for (name, value) in &template.headers {
        text.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
    }
    text.extend(format!("content-length: {}\r\n\r\n", body.len()).bytes());
    text.extend(&body[..body.len() / 2]);
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(&text).await?;
    time::sleep(after).await;
    Ok(())
}
