//! What waits to be written to a connection.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Bytes, BytesMut};
use prost::Message;

use crate::{
    Method, RpcError,
    frame::{Header, Kind, varint_len, write_varint},
};

/// Values at least this long are kept by reference rather than copied behind the frames before them.
const BY_REFERENCE: usize = 4096;

/// The frames that wait to be written, small ones gathered in one buffer, large blocks by reference.
///
/// It has no bound of its own: who fills it looks at [`Outbox::len`] and stops.
#[derive(Debug, Default)]
pub struct Outbox {
    /// What goes out first.
    full: VecDeque<Bytes>,
    /// What is still being filled.
    tail: BytesMut,
    /// Bytes in both.
    len: usize,
}

impl Outbox {
    /// Nothing waits.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of bytes that wait.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A call; with id 0 no answer comes. Events are calls with id 0.
    pub fn request(&mut self, method: Method, id: u64, message: &impl Message) {
        self.frame(Header::request(method, id), message);
    }

    /// An event.
    pub fn event(&mut self, method: Method, message: &impl Message) {
        self.request(method, 0, message);
    }

    /// The answer to the call with this header; none when the caller wants none.
    pub fn response(&mut self, call: Header, message: &impl Message) {
        if call.id != 0 {
            self.frame(call.with_kind(Kind::Response), message);
        }
    }

    /// The answer to a get. A large block is not copied.
    pub fn block_response(&mut self, call: Header, block: Bytes) {
        if call.id == 0 {
            return;
        }
        let length = block.len() as u64;
        // `GetResponse` by hand: field 1, bytes.
        let head = 1 + varint_len(length);
        let before = self.tail.len();
        call.with_kind(Kind::Response).write(head as usize + block.len(), &mut self.tail);
        write_varint(0x0a, &mut self.tail);
        write_varint(length, &mut self.tail);
        self.len += self.tail.len() - before;
        self.bytes(block);
    }

    /// The error that answers the call with this header; none when the caller wants none.
    pub fn error(&mut self, call: Header, error: &RpcError) {
        if call.id != 0 {
            self.frame(call.with_kind(Kind::Error), error);
        }
    }

    /// A frame.
    pub fn frame(&mut self, header: Header, message: &impl Message) {
        let before = self.tail.len();
        let length = message.encoded_len();
        self.tail.reserve(crate::frame::MAX_HEAD + length);
        header.write(length, &mut self.tail);
        message.encode_raw(&mut self.tail);
        self.len += self.tail.len() - before;
    }

    /// An append whose blocks are kept by reference when they are large.
    pub fn append_request(&mut self, call_id: u64, session: u64, blocks: &[Bytes]) {
        let payload: u64 = 1
            + varint_len(session)
            + blocks.iter().map(|b| 1 + varint_len(b.len() as u64) + b.len() as u64).sum::<u64>();
        let before = self.tail.len();
        Header::request(Method::HypercoreAppend, call_id).write(payload as usize, &mut self.tail);
        write_varint(0x08, &mut self.tail);
        write_varint(session, &mut self.tail);
        self.len += self.tail.len() - before;
        for block in blocks {
            let before = self.tail.len();
            write_varint(0x12, &mut self.tail);
            write_varint(block.len() as u64, &mut self.tail);
            self.len += self.tail.len() - before;
            self.bytes(block.clone());
        }
    }

    /// Fills `slices` with what goes out first, for a vectored write; returns how many are used.
    pub fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let waiting = self.full.iter().map(|bytes| &bytes[..]).chain([&self.tail[..]]);
        let mut used = 0;
        for (slot, bytes) in slices.iter_mut().zip(waiting.filter(|bytes| !bytes.is_empty())) {
            *slot = IoSlice::new(bytes);
            used += 1;
        }
        used
    }

    /// Forgets `written` bytes.
    pub fn advance(&mut self, mut written: usize) {
        self.len = self.len.saturating_sub(written);
        while let Some(first) = self.full.front_mut() {
            if written < first.len() {
                let _ = first.split_to(written);
                return;
            }
            written -= first.len();
            self.full.pop_front();
        }
        if written >= self.tail.len() {
            // Keeps the capacity: in the usual case nothing is allocated for the next burst.
            self.tail.clear();
        } else {
            let _ = self.tail.split_to(written);
        }
    }

    /// Everything that waits, in one piece.
    pub fn take(&mut self) -> Bytes {
        let mut all = BytesMut::with_capacity(self.len);
        for bytes in self.full.drain(..) {
            all.extend_from_slice(&bytes);
        }
        all.extend_from_slice(&self.tail);
        self.tail.clear();
        self.len = 0;
        all.freeze()
    }

    /// Gives back memory that a large burst needed; call it when the connection has nothing to do.
    pub fn shrink(&mut self, keep: usize) {
        if self.len == 0 && self.tail.capacity() > keep {
            self.tail = BytesMut::new();
            self.full.shrink_to(16);
        }
    }

    fn bytes(&mut self, bytes: Bytes) {
        self.len += bytes.len();
        if bytes.len() < BY_REFERENCE {
            self.tail.extend_from_slice(&bytes);
        } else {
            if !self.tail.is_empty() {
                let head = self.tail.split().freeze();
                self.full.push_back(head);
            }
            self.full.push_back(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Decoder, decode, messages::*};

    #[test]
    fn large_blocks_stay_in_place_and_in_order() {
        let call = Header::request(Method::HypercoreGet, 5);
        let mut outbox = Outbox::new();
        let blocks = [vec![1; 10], vec![2; 10_000], vec![3; 4096], vec![4; 4095], vec![]];
        for block in &blocks {
            outbox.block_response(call, Bytes::from(block.clone()));
        }
        let mut written = Vec::new();
        while !outbox.is_empty() {
            let mut slices = [IoSlice::new(&[]); 3];
            let used = outbox.slices(&mut slices);
            assert!(used > 0);
            // A writer that takes odd amounts.
            let mut left = 777;
            for slice in &slices[..used] {
                let n = slice.len().min(left);
                written.extend_from_slice(&slice[..n]);
                left -= n;
            }
            outbox.advance(777 - left);
        }
        let mut rest = &written[..];
        for block in &blocks {
            let frame = Decoder::default().next(rest).unwrap().unwrap();
            assert_eq!(frame.header, Header::response(Method::HypercoreGet, 5));
            let response: GetResponse = decode(&rest[frame.payload]).unwrap();
            assert_eq!(response.block.unwrap(), block);
            rest = &rest[frame.end..];
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn an_append_is_the_message_of_the_schema() {
        let blocks = vec![Bytes::from(vec![1; 5000]), Bytes::new(), Bytes::from_static(b"abc")];
        let mut outbox = Outbox::new();
        outbox.append_request(3, 300, &blocks);
        let mut plain = Outbox::new();
        plain.request(Method::HypercoreAppend, 3, &AppendRequest { id: 300, blocks });
        assert_eq!(outbox.len(), plain.len());
        assert_eq!(outbox.take(), plain.take());
    }

    #[test]
    fn nothing_answers_id_0() {
        let mut outbox = Outbox::new();
        let call = Header::request(Method::HypercoreHas, 0);
        outbox.response(call, &HasResponse { has: true });
        outbox.error(call, &RpcError::default());
        outbox.block_response(call, Bytes::from_static(b"x"));
        assert!(outbox.is_empty());
    }
}
