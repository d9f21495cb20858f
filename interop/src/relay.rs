//! A TCP relay between two peers that cuts connections after a chosen number of bytes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Stands between two peers on 127.0.0.1. The first connection is cut when as many bytes as the first limit says have
/// come from the side that was dialled, the second at the second limit, and so on; later ones live.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    cuts: Arc<AtomicUsize>,
}

impl Relay {
    /// A relay to `target` on 127.0.0.1.
    pub async fn new(target: u16, limits: impl IntoIterator<Item = u64>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let port = listener.local_addr().expect("a bound socket has an address").port();
        let limits = Mutex::new(limits.into_iter().collect::<VecDeque<_>>());
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&cuts);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let limit = limits.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                let counted = Arc::clone(&counted);
                tokio::spawn(async move {
                    if let Ok(far) = TcpStream::connect(("127.0.0.1", target)).await {
                        carry(near, far, limit.unwrap_or(u64::MAX), &counted).await;
                    }
                });
            }
        });
        Self { port, cuts }
    }

    /// Where to dial instead of the target.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// How many connections it has cut.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Acquire)
    }
}

async fn carry(near: TcpStream, far: TcpStream, limit: u64, cuts: &AtomicUsize) {
    let (near_read, near_write) = near.into_split();
    let (far_read, far_write) = far.into_split();
    let (over, _) = watch::channel(());
    let there = tokio::spawn(pipe(near_read, far_write, u64::MAX, over.clone(), || {}));
    let count = || {
        cuts.fetch_add(1, Ordering::AcqRel);
    };
    pipe(far_read, near_write, limit, over, count).await;
    let _ = there.await;
}

/// Carries bytes until an end, `limit`, or the end of the other direction. When it is the limit, `cut` is called before
/// either peer can notice.
async fn pipe(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    limit: u64,
    over: watch::Sender<()>,
    cut: impl FnOnce(),
) {
    let mut ended = over.subscribe();
    let mut left = limit;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = tokio::select! {
            read = from.read(&mut buffer) => read,
            _ = ended.changed() => break,
        };
        let Ok(count @ 1..) = read else { break };
        let passed = usize::try_from(left).map_or(count, |left| count.min(left));
        left -= passed as u64;
        if to.write_all(&buffer[..passed]).await.is_err() {
            break;
        }
        if left == 0 {
            cut();
            break;
        }
    }
    // Both halves of both sockets are dropped by both directions: the connection is gone for either peer.
    over.send_replace(());
}
