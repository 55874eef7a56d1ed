//! A tunnel through the operator's proxy: it is told the vetted address, never a name, so that what is reached is what
//! was vetted.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::guard::Fault;
use super::limits;

/// Asks the proxy at the other end for a tunnel, and reads its answer to the end and not a byte beyond.
pub(super) async fn open(stream: &mut TcpStream, target: SocketAddr) -> Result<(), Fault> {
    let broken = |_| Fault::Unreachable("the proxy closed the connection".to_owned());
    let ask = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(ask.as_bytes()).await.map_err(broken)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() >= limits::PROXY_HEAD_BYTES {
            return Err(Fault::Unreachable("the proxy's answer is too long".to_owned()));
        }
        head.push(stream.read_u8().await.map_err(broken)?);
    }
    let line = String::from_utf8_lossy(&head);
    let status = line.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).and_then(|digits| digits.parse().ok());
    match status {
        Some(200..=299_u16) => Ok(()),
        Some(status) => Err(Fault::Unreachable(format!("the proxy answers with HTTP {status}"))),
        None => Err(Fault::Unreachable("the proxy does not speak HTTP".to_owned())),
    }
}
