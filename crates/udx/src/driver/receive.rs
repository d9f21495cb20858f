//! Buffers that a burst is read into: one set per thread, not per socket.
//!
//! A node may have hundreds of sockets open while it punches holes; 32 buffers of 64 KiB for each would be 2 MiB apiece.
//! Reading happens within one poll, so the set of the thread serves every socket; pages that no datagram ever reached are
//! never touched and cost nothing.

use std::cell::RefCell;
use std::io::{self, IoSliceMut};

use quinn_udp::{BATCH_SIZE, RecvMeta};

use super::io::Io;

/// What one buffer holds: the longest train of datagrams that GRO delivers.
const BUFFER: usize = 65_536;

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::new(Buffers::new());
}

struct Buffers {
    memory: Vec<u8>,
    metas: [RecvMeta; BATCH_SIZE],
}

impl Buffers {
    fn new() -> Self {
        Self { memory: vec![0; BUFFER * BATCH_SIZE], metas: [RecvMeta::default(); BATCH_SIZE] }
    }
}

/// Reads one batch and gives every train of datagrams to `each`. Errors are those of the socket, `WouldBlock` first.
///
/// `each` must not read from a socket itself.
pub(super) fn batch(io: &Io, mut each: impl FnMut(&RecvMeta, &mut [u8])) -> io::Result<usize> {
    BUFFERS.with_borrow_mut(|buffers| {
        let Buffers { memory, metas } = buffers;
        let read = io.read(|state, socket| {
            let mut chunks = memory.chunks_exact_mut(BUFFER);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
                std::array::from_fn(|_| IoSliceMut::new(chunks.next().unwrap_or_default()));
            state.recv(socket, &mut slices, metas)
        })?;
        let trains = metas.iter().zip(memory.chunks_exact_mut(BUFFER)).take(read);
        for (meta, train) in trains {
            if let Some(train) = train.get_mut(..meta.len) {
                each(meta, train);
            }
        }
        Ok(read)
    })
}
