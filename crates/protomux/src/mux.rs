use bytes::Bytes;

use crate::{ChannelId, Error, Event, OpenOptions, Transmit};

/// Bounds.
#[derive(Debug, Clone)]
pub struct Limits {}

/// STUB.
#[derive(Debug)]
pub struct Protomux {}

#[expect(missing_docs, unused_variables)]
impl Protomux {
    #[expect(clippy::new_without_default)]
    pub fn new() -> Self {
        todo!()
    }
    pub fn with_limits(limits: Limits) -> Self {
        todo!()
    }
    pub fn open(&mut self, options: OpenOptions) -> Result<ChannelId, Error> {
        todo!()
    }
    pub fn is_open(&self, protocol: &str, id: Option<&[u8]>) -> bool {
        todo!()
    }
    pub fn reject(&mut self, protocol: &str, id: Option<&[u8]>) -> Result<(), Error> {
        todo!()
    }
    pub fn close(&mut self, channel: ChannelId) -> Result<(), Error> {
        todo!()
    }
    pub fn send(&mut self, channel: ChannelId, kind: u32, payload: &[u8]) -> Result<(), Error> {
        todo!()
    }
    pub fn send_parts(&mut self, channel: ChannelId, kind: u32, parts: &[Bytes]) -> Result<(), Error> {
        todo!()
    }
    pub fn cork(&mut self) {
        todo!()
    }
    pub fn uncork(&mut self) {
        todo!()
    }
    pub fn receive(&mut self, message: Bytes) -> Result<(), Error> {
        todo!()
    }
    pub fn poll_event(&mut self) -> Option<Event> {
        todo!()
    }
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        todo!()
    }
    pub fn queued_bytes(&self) -> usize {
        todo!()
    }
    pub fn is_paused(&self) -> bool {
        todo!()
    }
}
