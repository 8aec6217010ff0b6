//! A lean HTTP/1.1 client: one connection, one request at a time. It shares the machine with
//! the node, so it must cost little.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout},
};

const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The node closes connections that rest; one that rested this long is made anew.
const REST_MAX: Duration = Duration::from_secs(10);

/// An open connection.
#[derive(Debug)]
pub(crate) struct Http {
    stream: TcpStream,
    authority: String,
    token: String,
    buffer: Vec<u8>,
    used: Instant,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn ok(self) -> Result<Vec<u8>> {
        let text = || String::from_utf8_lossy(&self.body).into_owned();
        ensure!(self.status < 300, "status {}: {}", self.status, text());
        Ok(self.body)
    }
}

impl Http {
    /// `authority` is `host:port`; an empty token sends none.
    pub(crate) async fn connect(authority: &str, token: &str) -> Result<Self> {
        let stream = TcpStream::connect(authority).await.context("connect to the node")?;
        stream.set_nodelay(true).context("set up the connection")?;
        let (authority, token) = (authority.to_owned(), token.to_owned());
        let (buffer, used) = (Vec::with_capacity(16 * 1024), Instant::now());
        Ok(Self { stream, authority, token, buffer, used })
    }

    pub(crate) async fn call(
        &mut self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Answer> {
        if self.used.elapsed() > REST_MAX {
            *self = Self::connect(&self.authority, &self.token).await?;
        }
        let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {}\r\n", self.authority);
        if !self.token.is_empty() {
            request.push_str(&format!("authorization: Bearer {}\r\n", self.token));
        }
        if let Some((kind, body)) = body {
            let head = format!("content-type: {kind}\r\ncontent-length: {}\r\n", body.len());
            request.push_str(&head);
        }
        request.push_str("\r\n");
        let mut request = request.into_bytes();
        request.extend_from_slice(body.map_or(&[], |(_, body)| body));
        let exchange = async {
            self.stream.write_all(&request).await.context("send a request")?;
            self.answer().await
        };
        let answer = timeout(ANSWER_MAX, exchange).await.context("the node does not answer")?;
        self.used = Instant::now();
        answer
    }

    async fn answer(&mut self) -> Result<Answer> {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at + 4;
            }
            self.fill().await?;
        };
        let head = String::from_utf8_lossy(&self.buffer[..end]).to_lowercase();
        self.buffer.drain(..end);
        let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.context("an answer without a status")?;
        let field = |name: &str| {
            head.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim())
        };
        let body = if let Some(length) = field("content-length:") {
            self.take(length.parse().context("content-length")?).await?
        } else if field("transfer-encoding:") == Some("chunked") {
            self.chunks().await?
        } else if status == 204 {
            Vec::new()
        } else {
            bail!("an answer without a length");
        };
        Ok(Answer { status, body })
    }

    async fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let end = loop {
                if let Some(at) = find(&self.buffer, b"\r\n") {
                    break at;
                }
                self.fill().await?;
            };
            let size = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
            let size = usize::from_str_radix(size.trim(), 16).context("size of a chunk")?;
            self.buffer.drain(..end + 2);
            let chunk = self.take(size + 2).await?;
            if size == 0 {
                return Ok(body);
            }
            body.extend_from_slice(&chunk[..size]);
        }
    }

    async fn take(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.buffer.len() < count {
            self.fill().await?;
        }
        let rest = self.buffer.split_off(count);
        Ok(std::mem::replace(&mut self.buffer, rest))
    }

    async fn fill(&mut self) -> Result<()> {
        let read = self.stream.read_buf(&mut self.buffer).await.context("read an answer")?;
        ensure!(read > 0, "the node closed the connection");
        Ok(())
    }
}

fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn answers_of_both_forms_are_read() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut server = tokio::task::JoinSet::new();
        server.spawn(async move {
            let (mut peer, _) = listener.accept().await.unwrap();
            let mut seen = [0; 1024];
            for answer in [
                "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
                "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno",
            ] {
                let read = peer.read(&mut seen).await.unwrap();
                assert!(seen[..read].starts_with(b"GET /x HTTP/1.1\r\n"));
                peer.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        let mut http = Http::connect(&address, "t").await.unwrap();
        for want in ["hello", "abcde"] {
            let answer = http.call("GET", "/x", None).await.unwrap();
            assert_eq!(answer.ok().unwrap(), want.as_bytes());
        }
        assert!(http.call("GET", "/x", None).await.unwrap().ok().is_err());
    }
}
