//! A request whose body comes a byte at a time, for as long as the server takes it.
//!
//! In the clear it goes over a plain socket: the client that sends all other requests does not look for
//! an answer before its body is sent, and loses the one that comes earlier. Over TLS that client sends it
//! nonetheless, and what is seen is that the server lets go.

use super::{Remote, refused::Refused, retry::words};
use reqwest::{
    StatusCode,
    blocking::Body,
    header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

/// How a server let go of a body.
#[derive(Debug)]
pub(crate) enum LetGo {
    /// With an answer.
    Answered(Box<Refused>),
    /// By closing the connection: over TLS no answer is seen.
    Closed,
}

/// Between two bytes: a thousandth of what any server has to put up with.
const PAUSE: Duration = Duration::from_millis(100);

/// Bytes that are announced, and never all sent.
const BODY_BYTES: u64 = 1 << 20;

/// Bytes of an answer: a line, some headers, and a sentence.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// For an answer that has begun.
const ANSWER_TIME: Duration = Duration::from_secs(20);

impl Remote {
    /// Sends a body slowly, until the server lets go of it.
    ///
    /// # Errors
    /// When the server takes it for longer than `most`, or answers in another way than with a refusal.
    pub(crate) fn send_slowly(&self, path: &[&str], most: Duration) -> io::Result<LetGo> {
        let url = self.url(path);
        if url.scheme() != "http" {
            return self.send_slowly_over_tls(path, most);
        }
        let addresses = url.socket_addrs(|| None)?;
        let mut stream = TcpStream::connect(addresses.as_slice())?;
        stream.set_nodelay(true)?;
        let mut head = format!("POST {} HTTP/1.1\r\nhost: {}\r\n", url.path(), url.authority());
        head.push_str(&format!(
            "content-type: application/json\r\ncontent-length: {BODY_BYTES}\r\n"
        ));
        let mut head = head.into_bytes();
        if let Some(bearer) = &self.bearer {
            head.extend(
                [AUTHORIZATION.as_str().as_bytes(), b": ", bearer.as_bytes(), b"\r\n"].concat(),
            );
        }
        head.extend(b"\r\n");
        stream.write_all(&head)?;
        // Looking for an answer is the pause.
        stream.set_read_timeout(Some(PAUSE))?;
        let started = Instant::now();
        while started.elapsed() < most {
            match stream.peek(&mut [0]) {
                Ok(0) => return Err(io::Error::other("closed without an answer")),
                Ok(_) => return answer(stream).map(Box::new).map(LetGo::Answered),
                Err(error) if is_nothing_yet(&error) => stream.write_all(b" ")?,
                Err(error) => return Err(error),
            }
        }
        Err(too_long(most))
    }

    fn send_slowly_over_tls(&self, path: &[&str], most: Duration) -> io::Result<LetGo> {
        let url = self.url(path);
        let started = Instant::now();
        let body = Body::sized(Slow { until: started + most }, BODY_BYTES);
        let error = match self.client.post(url).body(body).send() {
            // Nobody can have read all of it.
            Ok(response) => {
                return Err(io::Error::other(format!("answered {}", response.status())));
            }
            Err(error) => error.without_url(),
        };
        if started.elapsed() >= most {
            return Err(too_long(most));
        }
        if error.is_body() {
            return Ok(LetGo::Closed);
        }
        Err(io::Error::other(words(&error)))
    }
}

fn too_long(most: Duration) -> io::Error {
    let text = format!(
        "a body of {} bytes/s was taken for {} s",
        1_000 / PAUSE.as_millis(),
        most.as_secs()
    );
    io::Error::new(io::ErrorKind::TimedOut, text)
}

/// Whether a read ended because of its time.
fn is_nothing_yet(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Reads a refusal.
fn answer(stream: TcpStream) -> io::Result<Refused> {
    stream.set_read_timeout(Some(ANSWER_TIME))?;
    let mut reader = BufReader::new(stream.take(ANSWER_BYTES_MAX));
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        io::Result::Ok(line.trim_end().to_owned())
    };
    let invalid =
        |what: &str| io::Error::new(io::ErrorKind::InvalidData, format!("not HTTP: {what}"));
    let first = line()?;
    let status =
        first.split(' ').nth(1).and_then(|code| StatusCode::from_bytes(code.as_bytes()).ok());
    let status = status.ok_or_else(|| invalid(&first))?;
    let mut headers = HeaderMap::new();
    loop {
        let header = line()?;
        if header.is_empty() {
            break;
        }
        let (name, value) = header.split_once(": ").ok_or_else(|| invalid(&header))?;
        let name = HeaderName::try_from(name).map_err(|_| invalid(&header))?;
        headers.append(name, HeaderValue::try_from(value).map_err(|_| invalid(&header))?);
    }
    if status.is_success() {
        return Err(io::Error::other(format!("answered {status} before the body was sent")));
    }
    let bytes = super::header(&headers, "content-length").and_then(|text| text.parse().ok());
    let mut body = Vec::new();
    reader.take(bytes.unwrap_or(ANSWER_BYTES_MAX)).read_to_end(&mut body)?;
    Ok(Refused::read(status, headers, &body))
}

/// A body, a byte at a time, that breaks off in the end.
struct Slow {
    until: Instant,
}

impl Read for Slow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        thread::sleep(PAUSE);
        match buffer.first_mut() {
            Some(byte) if Instant::now() < self.until => {
                *byte = b' ';
                Ok(1)
            }
            _ => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{client::ServerArgs, progress::Verbosity};
    use std::net::TcpListener;

    /// Of the request below, with a port of five digits.
    const HEAD_BYTES: usize = 101;

    /// A server that reads so many bytes, and then says this and closes the connection.
    fn sent_to(bytes: usize, says: &'static str, most: Duration) -> io::Result<LetGo> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?).parse().expect("an address");
        let server = thread::spawn(move || {
            let (mut stream, _) = listener.accept()?;
            let mut found = vec![0; bytes];
            stream.read_exact(&mut found)?;
            stream.write_all(says.as_bytes())?;
            io::Result::Ok(found)
        });
        let args = ServerArgs {
            url,
            key_file: None,
            ca: None,
            insecure: false,
            retries: 0,
            timeout: Duration::from_secs(9),
        };
        let remote = args.remote(Verbosity::Quiet).expect("a client");
        let let_go = remote.send_slowly(&["v2"], most);
        let found = server.join().expect("a thread")?;
        assert!(found.starts_with(b"POST /v2 HTTP/1.1\r\nhost: 127.0.0.1:"), "{found:?}");
        let_go
    }

    #[test]
    fn answers_before_the_end_of_a_body_are_read() {
        let long = Duration::from_secs(60);
        let says = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 26\r\n\r\n{\"code\":\"request_timeout\"}";
        let LetGo::Answered(refused) = sent_to(HEAD_BYTES + 2, says, long).expect("an answer")
        else {
            panic!("no answer");
        };
        assert_eq!(refused.code, "request_timeout");
        for (says, expected) in [
            ("", "closed without an answer"),
            ("HTTP/1.1 200 OK\r\n\r\n", "answered 200 OK before the body was sent"),
            ("SSH-2.0\r\n\r\n", "not HTTP: SSH-2.0"),
        ] {
            let error = sent_to(HEAD_BYTES, says, long).expect_err(expected);
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn a_body_that_is_taken_for_ever_is_an_error() {
        let error = sent_to(HEAD_BYTES - 2, "", Duration::ZERO).expect_err("too long");
        assert_eq!(error.to_string(), "a body of 10 bytes/s was taken for 0 s");
    }
}
