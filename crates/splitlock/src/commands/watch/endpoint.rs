//! A very small web server for one text: what Prometheus asks for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Serves the text that was published last, for as long as the program runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoint(Arc<Mutex<String>>);

/// A client that takes longer to ask and to listen, or asks for more, is not Prometheus.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(2);
const LONGEST_REQUEST: usize = 8 << 10;

impl Endpoint {
    /// Begins to serve at an address, which is returned: its port may have been left open by 0.
    pub(super) fn at(address: SocketAddr) -> Result<(Self, SocketAddr)> {
        let cannot = || format!("cannot serve metrics at {address}");
        let listener = TcpListener::bind(address).with_context(cannot)?;
        let bound = listener.local_addr().with_context(cannot)?;
        let endpoint = Self::default();
        let served = endpoint.clone();
        thread::Builder::new()
            .name("metrics".into())
            .spawn(move || served.serve(&listener))
            .with_context(cannot)?;
        Ok((endpoint, bound))
    }

    pub(super) fn publish(&self, text: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = text;
    }

    fn serve(&self, listener: &TcpListener) {
        for client in listener.incoming() {
            // One at a time: one that makes us wait makes others wait, for two seconds at most.
            match client {
                Ok(client) => {
                    let _client_left = self.answer(&client);
                }
                // Too many open files, perhaps for a moment only.
                Err(_) => thread::sleep(CLIENT_TIMEOUT),
            }
        }
    }

    fn answer(&self, mut client: &TcpStream) -> io::Result<()> {
        let deadline = Instant::now() + CLIENT_TIMEOUT;
        let target = read_target(|part| {
            client.set_read_timeout(time_left(deadline)?)?;
            client.read(part)
        })?;
        let (status, text) = match target {
            Target::Metrics => {
                let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                ("200 OK", text.clone())
            }
            Target::OtherPath => ("404 Not Found", "the metrics are at /metrics\n".to_owned()),
            Target::OtherMethod => (
                "405 Method Not Allowed",
                "only GET is known here\n".to_owned(),
            ),
            Target::NotHttp => ("400 Bad Request", "this is not HTTP\n".to_owned()),
        };
        let answer = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{text}",
            text.len()
        );
        let mut rest = answer.as_bytes();
        while !rest.is_empty() {
            client.set_write_timeout(time_left(deadline)?)?;
            match client.write(rest) {
                Ok(count) => rest = &rest[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Target {
    Metrics,
    OtherPath,
    OtherMethod,
    NotHttp,
}

/// Reads up to the empty line that ends a request, or until there is no more or too much of it.
fn read_target(mut read: impl FnMut(&mut [u8]) -> io::Result<usize>) -> io::Result<Target> {
    let mut head = [0; LONGEST_REQUEST];
    let mut length = 0;
    let is_over = |head: &[u8]| head.windows(4).any(|end| end == b"\r\n\r\n");
    while length < head.len() && !is_over(&head[..length]) {
        match read(&mut head[length..])? {
            0 => break,
            count => length += count,
        }
    }
    Ok(target(&head[..length]))
}

/// What the first line asks for; what follows a question mark does not matter.
fn target(head: &[u8]) -> Target {
    let mut request = httparse::Request::new(&mut []);
    // With no room for headers it ends in an error at the first one.
    let _only_line_is_wanted = request.parse(head);
    let path = request.path.and_then(|path| path.split('?').next());
    match (request.version, request.method, path) {
        (None, ..) => Target::NotHttp,
        (_, Some("GET"), Some("/metrics" | "/")) => Target::Metrics,
        (_, Some("GET"), _) => Target::OtherPath,
        _ => Target::OtherMethod,
    }
}

/// However busy a connection is, it ends then.
fn time_left(deadline: Instant) -> io::Result<Option<Duration>> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(Some(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(address: SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn metrics_are_served_and_nothing_else() {
        let (endpoint, address) = Endpoint::at("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.publish("a 1\n".to_owned());
        let answer = ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("Content-Length: 4\r\n") && answer.ends_with("\r\n\r\na 1\n"));
        endpoint.publish("a 2\n".to_owned());
        assert!(ask(address, "GET /metrics?x=1 HTTP/1.0\r\n\r\n").ends_with("a 2\n"));
        for (request, status) in [
            ("GET /etc/passwd HTTP/1.1\r\n\r\n", "404"),
            ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
            ("\u{1}\u{2}\r\n\r\n", "400"),
        ] {
            let answer = ask(address, request);
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {status} ")),
                "{answer}"
            );
        }
        let taken = Endpoint::at(address).unwrap_err();
        assert!(format!("{taken:#}").contains(&address.to_string()));
    }

    #[test]
    fn a_slow_client_is_dropped_and_others_are_served() {
        let (endpoint, address) = Endpoint::at("127.0.0.1:0".parse().unwrap()).unwrap();
        endpoint.publish("a 1\n".to_owned());
        let mut slow = TcpStream::connect(address).unwrap();
        // Until nobody listens any more. That comes as an error at one of the next drops.
        while slow.write_all(b"x").is_ok() {
            thread::sleep(Duration::from_millis(100));
        }
        assert!(ask(address, "GET /metrics HTTP/1.0\r\n\r\n").ends_with("a 1\n"));
    }

    #[test]
    fn the_first_line_decides_whatever_comes_after_it() {
        let line = "GET /metrics HTTP/1.1\r\n";
        let headers = "X: y\r\n".repeat(65);
        let endless = "x".repeat(LONGEST_REQUEST + 1);
        for (parts, target) in [
            (&["GET /metr", "ics HTTP/1.0\r\n\r\n"][..], Target::Metrics),
            // The client has nothing more to say.
            (&[line, "Host: x\r\n"], Target::Metrics),
            (&[line, "no header\r\n\r\n"], Target::Metrics),
            (&[line, &headers, "\r\n"], Target::Metrics),
            (&[line, "X: ", &endless], Target::Metrics),
            (&["GET /metrics HT"], Target::NotHttp),
            (&[&endless], Target::NotHttp),
            (&[], Target::NotHttp),
        ] {
            let mut rest = parts.iter();
            let read = |into: &mut [u8]| match rest.next() {
                Some(part) => part.as_bytes().read(into),
                None => Ok(0),
            };
            assert_eq!(read_target(read).unwrap(), target, "{parts:?}");
        }
    }
}
