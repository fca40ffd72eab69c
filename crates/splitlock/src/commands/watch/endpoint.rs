//! A very small web server for one text: what Prometheus asks for.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

/// Serves the text that was published last, for as long as the program runs.
#[derive(Debug, Clone, Default)]
pub(super) struct Endpoint(Arc<Mutex<String>>);

/// Who asks more slowly, or for more, is not Prometheus.
const PATIENCE: Duration = Duration::from_secs(2);
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
        for asker in listener.incoming() {
            // One at a time: somebody who makes us wait makes others wait, for two seconds.
            match asker {
                Ok(asker) => {
                    let _they_left = self.answer(asker);
                }
                // Too many open files, perhaps for a moment only.
                Err(_) => thread::sleep(PATIENCE),
            }
        }
    }

    fn answer(&self, mut asker: TcpStream) -> io::Result<()> {
        asker.set_read_timeout(Some(PATIENCE))?;
        asker.set_write_timeout(Some(PATIENCE))?;
        let request = request(&mut asker)?;
        let (status, text) = match request_line(&request) {
            Some(("GET", "/metrics" | "/")) => {
                let text = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                ("200 OK", text.clone())
            }
            Some(("GET", _)) => ("404 Not Found", "the metrics are at /metrics\n".to_owned()),
            Some(_) => (
                "405 Method Not Allowed",
                "only GET is known here\n".to_owned(),
            ),
            None => ("400 Bad Request", "this is not HTTP\n".to_owned()),
        };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            text.len()
        );
        asker.write_all(head.as_bytes())?;
        asker.write_all(text.as_bytes())
    }
}

/// Up to the empty line.
fn request(asker: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut request = vec![];
    let mut part = [0; 1024];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") && request.len() < LONGEST_REQUEST {
        match asker.read(&mut part)? {
            0 => break,
            count => request.extend_from_slice(&part[..count]),
        }
    }
    Ok(request)
}

/// `GET /metrics HTTP/1.1`: what is wanted, and where, without what follows a question mark.
fn request_line(request: &[u8]) -> Option<(&str, &str)> {
    let line = request.split(|&byte| byte == b'\r').next()?;
    let mut words = str::from_utf8(line).ok()?.split(' ');
    let (method, target) = (words.next()?, words.next()?);
    words.next()?.strip_prefix("HTTP/")?;
    Some((method, target.split('?').next()?))
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
    fn a_request_without_an_end_is_cut() {
        let mut endless = io::repeat(b'x');
        assert!(request(&mut endless).unwrap().len() <= LONGEST_REQUEST + 1024);
    }
}
