//! A daemon that does nothing but answer: what a client reaches with it is about the most that a daemon lets it reach.
//!
//! It keeps nothing. An append is counted and told as an event, as a daemon must; a get is answered with the block that was
//! appended last. It never sleeps: a client that waits for its answer waits for the kernel and for nobody else.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};

use anyhow::{Context, Result, bail};
use bytes::{Bytes, BytesMut};
use hyperspace_common::messages::{
    AppendEvent, AppendRequest, AppendResponse, GetRequest, HyperspaceStatusResponse, OpenNetworkResponse,
    OpenRequest, OpenResponse,
};
use hyperspace_common::{API_VERSION, Decoder, Header, Method, Outbox, decode};

/// As much as our daemon reads at once.
const READ: usize = 64 << 10;

/// Serves one client on the socket `ARG`, until it goes.
pub(super) fn serve(args: &[String]) -> Result<()> {
    let [socket] = args else { bail!("nothing SOCKET") };
    let listener = UnixListener::bind(socket).with_context(|| format!("listening on {socket}"))?;
    println!("Listening on {socket}");
    let (stream, _) = listener.accept()?;
    stream.set_nonblocking(true)?;
    let mut nothing =
        Nothing { stream, events: Outbox::new(), answers: Outbox::new(), core: Core::default() };
    nothing.serve()
}

struct Nothing {
    stream: UnixStream,
    /// Events, which go before the answers.
    events: Outbox,
    answers: Outbox,
    core: Core,
}

/// The one core that there is.
#[derive(Default)]
struct Core {
    length: u64,
    byte_length: u64,
    last: Bytes,
    opened: u8,
}

impl Nothing {
    fn serve(&mut self) -> Result<()> {
        let decoder = Decoder::default();
        let (mut buffer, mut input) = (vec![0; READ], BytesMut::new());
        loop {
            let Some(length) = self.read(&mut buffer)? else { return Ok(()) };
            input.extend_from_slice(buffer.get(..length).unwrap_or_default());
            while let Some(frame) = decoder.next(&input)? {
                let message = input.split_to(frame.end).freeze();
                self.answer(frame.header, &message.slice(frame.payload))?;
            }
            self.write()?;
        }
    }

    /// Waits awake.
    fn read(&mut self, buffer: &mut [u8]) -> Result<Option<usize>> {
        loop {
            match self.stream.read(buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => return Ok(Some(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Events and answers at once, blocks from where they are, as our daemon does it.
    fn write(&mut self) -> Result<()> {
        while !(self.events.is_empty() && self.answers.is_empty()) {
            let mut slices = [IoSlice::new(&[]); 64];
            let events = self.events.slices(&mut slices);
            let answers = self.answers.slices(slices.get_mut(events..).unwrap_or_default());
            match self.stream.write_vectored(slices.get(..events + answers).unwrap_or_default()) {
                Ok(written) => {
                    let of_events = written.min(self.events.len());
                    self.events.advance(of_events);
                    self.answers.advance(written - of_events);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset) => {
                    // The next read tells.
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn answer(&mut self, call: Header, payload: &[u8]) -> Result<()> {
        let core = &mut self.core;
        match call.known_method() {
            Some(Method::HypercoreAppend) => {
                let request: AppendRequest = decode(payload)?;
                let seq = core.length;
                for block in request.blocks {
                    core.length += 1;
                    core.byte_length += block.len() as u64;
                    core.last = block;
                }
                let (length, byte_length) = (core.length, core.byte_length);
                self.events
                    .event(Method::HypercoreOnAppend, &AppendEvent { id: request.id, length, byte_length });
                self.answers.response(call, &AppendResponse { length, byte_length, seq });
            }
            Some(Method::HypercoreGet) => {
                let _: GetRequest = decode(payload)?;
                self.answers.block_response(call, core.last.clone());
            }
            Some(Method::CorestoreOpen) => {
                let _: OpenRequest = decode(payload)?;
                core.opened = core.opened.wrapping_add(1);
                let key = Bytes::from(vec![core.opened; 32]);
                self.answers.response(
                    call,
                    &OpenResponse {
                        key: key.clone(),
                        length: core.length,
                        byte_length: core.byte_length,
                        writable: true,
                        peers: Vec::new(),
                        discovery_key: Some(key),
                    },
                );
            }
            Some(Method::HyperspaceStatus) => {
                let api_version = API_VERSION.to_owned();
                self.answers.response(call, &HyperspaceStatusResponse { api_version, ..Default::default() });
            }
            Some(Method::NetworkOpen) => {
                let public_key = Bytes::from_static(&[1; 32]);
                self.answers.response(call, &OpenNetworkResponse { public_key, peers: Vec::new() });
            }
            // What the client's end brings.
            _ if call.id > 0 => self.answers.response(call, &()),
            _ => {}
        }
        Ok(())
    }
}
