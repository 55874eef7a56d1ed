//! The accept loop: TCP or a unix socket, a cap on connections with an early 503, patience when the machine runs out of
//! descriptors, and a drain that lets answers end.

use std::collections::HashMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::screen::ScreenedStream;
use crate::config::addresses::Bind;
use crate::domain::reason::{Reason, Refusal};
use crate::http::edge::Edge;
use crate::http::passage::Source;
use crate::http::problem;
use crate::platform::private_file;

/// Connections that may wait to be accepted.
const BACKLOG: u32 = 4_096;
/// Size of the HTTP library's buffers of one connection, bytes.
const CONNECTION_BUFFER_BYTES: usize = 64 << 10;

/// A bound socket.
pub enum Listener {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket at this path.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    /// Binds. A unix socket is open to its owner only; one that nobody listens on any more is replaced.
    pub async fn bind(bind: &Bind) -> io::Result<Self> {
        match bind {
            Bind::Tcp(address) => bind_tcp(*address).map(Listener::Tcp),
            Bind::Unix(path) => {
                if UnixStream::connect(path).await.is_ok() {
                    return Err(taken());
                }
                private_file::remove_socket(path).map_err(io::Error::other)?;
                let listener = UnixListener::bind(path)?;
                private_file::tighten(path).map_err(io::Error::other)?;
                Ok(Listener::Unix(listener, path.clone()))
            }
        }
    }

    /// Whether the address can be had: not where another process listens. Nothing is bound by it.
    pub fn look(bind: &Bind) -> io::Result<()> {
        match bind {
            // Two may bind an address while neither listens; a port that the machine chooses is free.
            Bind::Tcp(address) => reusing(*address)?.bind(*address),
            Bind::Unix(path) => match std::os::unix::net::UnixStream::connect(path) {
                Ok(_) => Err(taken()),
                Err(_) => Ok(()),
            },
        }
    }

    /// Where it is bound; with port 0, the port that the machine chose.
    pub fn bound(&self) -> io::Result<Bind> {
        match self {
            Listener::Tcp(listener) => listener.local_addr().map(Bind::Tcp),
            Listener::Unix(_, path) => Ok(Bind::Unix(path.clone())),
        }
    }
}

fn taken() -> io::Error {
    io::Error::new(io::ErrorKind::AddrInUse, "another process listens on the socket")
}

fn reusing(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    Ok(socket)
}

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = reusing(address)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connections of each address.
type ByPeer = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// What the accept loop counts.
struct Slots {
    all: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    by_peer: ByPeer,
    per_peer: usize,
}

/// A connection's place; free again when dropped.
struct Slot {
    _permit: OwnedSemaphorePermit,
    peer: Option<(IpAddr, ByPeer)>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some((address, by_peer)) = &self.peer {
            let mut by_peer = by_peer.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(count) = by_peer.get_mut(address) {
                *count -= 1;
                if *count == 0 {
                    by_peer.remove(address);
                }
            }
        }
    }
}

impl Slots {
    fn take(&self, peer: Source) -> Option<Slot> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        // Behind a proxy everybody is this machine, so it has no limit of its own.
        let address = match peer {
            Source::Address(address) if !address.is_loopback() => address,
            _ => return Some(Slot { _permit: permit, peer: None }),
        };
        let mut by_peer = self.by_peer.lock().unwrap_or_else(PoisonError::into_inner);
        let count = by_peer.entry(address).or_insert(0);
        if *count >= self.per_peer {
            return None;
        }
        *count += 1;
        Some(Slot { _permit: permit, peer: Some((address, self.by_peer.clone())) })
    }
}

/// Accepts connections until the drain begins. Connections end by themselves; the tasks' drain waits for them.
pub async fn serve(listener: Listener, edge: Arc<Edge>) {
    let limits = edge.gate().limits;
    let slots = Slots {
        all: Arc::new(Semaphore::new(limits.connections)),
        refusals: Arc::new(Semaphore::new(limits.refusals)),
        by_peer: Arc::default(),
        per_peer: limits.connections_per_peer,
    };
    let mut stopping = pin!(edge.gate().tasks.stopping());
    let mut failing = false;
    loop {
        let accepted = tokio::select! {
            () = stopping.as_mut() => break,
            accepted = accept_one(&listener, &edge, &slots) => accepted,
        };
        match accepted {
            Ok(()) => failing = false,
            Err(fault) => {
                if !failing {
                    tracing::error!(%fault, "no connection can be accepted; trying again");
                }
                failing = true;
                tokio::time::sleep(Duration::from_millis(limits.accept_pause_ms)).await;
            }
        }
    }
    if let Listener::Unix(_, path) = &listener
        && let Err(fault) = private_file::remove_socket(path)
    {
        tracing::warn!(%fault, "the socket was not removed");
    }
}

async fn accept_one(listener: &Listener, edge: &Arc<Edge>, slots: &Slots) -> io::Result<()> {
    match listener {
        Listener::Tcp(listener) => {
            let (socket, address) = listener.accept().await?;
            // A client that is gone again shows in the first read.
            let _ = socket.set_nodelay(true);
            start(socket, Source::Address(address.ip().to_canonical()), edge, slots);
        }
        Listener::Unix(listener, _) => {
            let (socket, _) = listener.accept().await?;
            start(socket, Source::Unix, edge, slots);
        }
    }
    Ok(())
}

fn start<S>(socket: S, peer: Source, edge: &Arc<Edge>, slots: &Slots)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let gate = edge.gate();
    if let Some(slot) = slots.take(peer) {
        let edge = edge.clone();
        gate.tasks.spawn(async move {
            connection(socket, peer, &edge).await;
            drop(slot);
        });
        return;
    }
    gate.metrics.connections_refused.inc();
    if let Ok(permit) = slots.refusals.clone().try_acquire_owned() {
        let linger = Duration::from_millis(gate.limits.linger_ms);
        gate.tasks.spawn(async move {
            let _ = tokio::time::timeout(linger, turn_away(socket)).await;
            drop(permit);
        });
    }
}

/// Says 503 without reading the request, and gives the client a moment to see it.
async fn turn_away<S: AsyncRead + AsyncWrite + Unpin>(mut socket: S) -> io::Result<()> {
    let refusal = Refusal::new(Reason::RequestOverloaded, "there are too many connections").retry_after_ms(1_000);
    let body = problem::body(&refusal, "");
    let head = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nretry-after: 1\r\nconnection: close\r\n\r\n",
        body.len()
    );
    socket.write_all(head.as_bytes()).await?;
    socket.write_all(&body).await?;
    socket.shutdown().await?;
    let mut scratch = [0; 1_024];
    while socket.read(&mut scratch).await? > 0 {}
    Ok(())
}

async fn connection<S: AsyncRead + AsyncWrite + Unpin>(socket: S, peer: Source, edge: &Arc<Edge>) {
    let gate = edge.gate();
    let facts = Arc::new(edge.connection(peer));
    let stream = ScreenedStream::new(socket, gate.limits, facts.in_flight.clone());
    let service = service_fn(|request| {
        let (edge, facts) = (edge.clone(), facts.clone());
        async move { Ok::<_, Infallible>(edge.serve(&facts, request).await) }
    });
    gate.metrics.connections.inc();
    // The screen keeps the head's deadline, for bytes that the library has not seen yet.
    let mut serving = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(None)
            .max_buf_size(CONNECTION_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
    );
    let outcome = tokio::select! {
        outcome = serving.as_mut() => outcome,
        () = gate.tasks.stopping() => {
            facts.in_flight.drain();
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    gate.metrics.connections.dec();
    if let Err(fault) = outcome {
        tracing::debug!(%fault, "a connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_elsewhere_has_its_own_limit_and_this_machine_only_the_one_of_all() {
        let by_peer = ByPeer::default();
        let slots = Slots {
            all: Arc::new(Semaphore::new(5)),
            refusals: Arc::new(Semaphore::new(1)),
            by_peer: by_peer.clone(),
            per_peer: 2,
        };
        let (far, other) = (Source::Address([192, 0, 2, 1].into()), Source::Address([192, 0, 2, 2].into()));
        let first = slots.take(far);
        let second = slots.take(far);
        assert!(first.is_some() && second.is_some() && slots.take(far).is_none());
        let third = slots.take(other);
        assert!(third.is_some(), "another address has its own");
        drop(first);
        let again = slots.take(far);
        assert!(again.is_some(), "a connection that ended counts no more");
        drop((second, third, again));
        assert!(by_peer.lock().unwrap().is_empty(), "an address without connections is forgotten");
        let near = Source::Address([127, 0, 0, 1].into());
        let all: Vec<_> = (0..6).filter_map(|_| slots.take(near)).collect();
        assert_eq!(all.len(), 5);
        assert!(slots.take(Source::Unix).is_none(), "and nobody more than there is");
    }
}
