//! From trains of datagrams to streams, relays and the user of the socket.
//!
//! What libudx's `process_packet` does per packet happens here per run of packets for one stream: one look-up, one lock,
//! and one copy out of the receive buffer for all packets that follow each other.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use quinn_udp::RecvMeta;

use super::address::inward;
use super::core::{MAX_TRAIN, StreamCore};
use super::inbox::Datagram;
use super::moderation::FEW_UNDER_WAY;
use super::socket::SocketCore;
use super::stream::Firewall;
use crate::packet::{self, MESSAGE, Packet};

/// What a burst brought, until everybody concerned is told.
#[derive(Default)]
pub(super) struct Dispatch {
    touched: Vec<Arc<StreamCore>>,
    datagrams: Vec<Datagram>,
    /// Acknowledgements that nobody waits for, and everything else.
    patient: usize,
    urgent: usize,
}

impl Dispatch {
    /// Takes datagrams that came from one address in one buffer.
    pub(super) fn train(
        &mut self,
        socket: &Arc<SocketCore>,
        meta: &RecvMeta,
        train: &mut [u8],
        now: Instant,
    ) {
        let stride = meta.stride.clamp(1, train.len().max(1));
        let from = inward(meta.addr);
        socket.counters.count_received(train.len(), train.len().div_ceil(stride).max(1));
        if train.is_empty() {
            self.urgent += 1;
            self.datagrams.push(Datagram { from, payload: Bytes::new() });
        }
        let mut rest = train;
        while !rest.is_empty() {
            let id = packet::stream_id(rest.get(..stride).unwrap_or(rest));
            let same = rest.chunks(stride).take_while(|datagram| packet::stream_id(datagram) == id).count();
            let (run, others) = rest.split_at_mut((same * stride).min(rest.len()));
            rest = others;
            match id.and_then(|id| socket.instance.find(id)) {
                Some(stream) => self.run(socket, &stream, from, run, stride, now),
                None => self.foreign(from, run, stride),
            }
        }
    }

    /// Tells everybody concerned; once per burst. How many acknowledgements nobody waited for there were, and how many
    /// other datagrams.
    pub(super) fn finish(&mut self, socket: &SocketCore) -> (usize, usize) {
        socket.inbox.extend(&mut self.datagrams);
        let counts = (std::mem::take(&mut self.patient), std::mem::take(&mut self.urgent));
        if self.touched.is_empty() {
            return counts;
        }
        let now = Instant::now();
        for stream in self.touched.drain(..) {
            stream.turn(now);
        }
        counts
    }

    /// As libudx: also what looks like a packet, but is for no stream that we know, goes to the user.
    fn foreign(&mut self, from: SocketAddr, run: &[u8], stride: usize) {
        let datagrams = run.chunks(stride);
        self.urgent += datagrams.len();
        self.datagrams
            .extend(datagrams.map(|payload| Datagram { from, payload: Bytes::copy_from_slice(payload) }));
    }

    fn run(
        &mut self,
        socket: &Arc<SocketCore>,
        stream: &Arc<StreamCore>,
        from: SocketAddr,
        run: &mut [u8],
        stride: usize,
        now: Instant,
    ) {
        let (is_on, is_stray) = {
            let inner = stream.lock();
            (inner.is_on(socket), inner.state.path().is_some_and(|path| path.remote != from))
        };
        // Through the stream's own socket everything is taken, as libudx does it; but whoever watches over the stream hears
        // of the other address.
        if !is_on || is_stray {
            let answer = stream.ask_firewall(socket, from);
            if answer == Firewall::Refuse && !is_on {
                return;
            }
        }
        let mut inner = stream.lock();
        if let Some(target) = inner.relay_to.clone() {
            drop(inner);
            self.relay(stream, &target, run, stride, now);
            return;
        }
        let patient = inner.state.packets_in_flight() >= FEW_UNDER_WAY;
        let mut rest: &[u8] = run;
        while !rest.is_empty() {
            let share = inner.state.shared_buffer(rest, stride).max(1);
            let (shared, others) = rest.split_at((share * stride).min(rest.len()));
            rest = others;
            let datagrams = Bytes::copy_from_slice(shared);
            for start in (0..datagrams.len()).step_by(stride) {
                let end = (start + stride).min(datagrams.len());
                let Some(packet) = Packet::decode(datagrams.slice(start..end)) else { continue };
                match patient && packet.header.is_acknowledgement() {
                    true => self.patient += 1,
                    false => self.urgent += 1,
                }
                inner.messaged |= packet.header.is(MESSAGE);
                inner.state.receive(packet, now);
            }
        }
        if !std::mem::replace(&mut inner.touched, true) {
            self.touched.push(Arc::clone(stream));
        }
    }

    /// Passes packets on to the remote of `target`, whose id is written over ours.
    fn relay(
        &mut self,
        stream: &Arc<StreamCore>,
        target: &Arc<StreamCore>,
        run: &mut [u8],
        stride: usize,
        now: Instant,
    ) {
        self.urgent += run.len().div_ceil(stride.max(1));
        let path = target.relay_path();
        let mut inner = stream.lock();
        for datagram in run.chunks_mut(stride) {
            if let Some(packet) = Packet::decode(Bytes::copy_from_slice(datagram)) {
                inner.state.relay(&packet, now);
            }
            if let Some((_, remote_id, _)) = path {
                packet::readdress(datagram, remote_id);
            }
        }
        if !std::mem::replace(&mut inner.touched, true) {
            self.touched.push(Arc::clone(stream));
        }
        drop(inner);
        let Some((socket, _, to)) = path else { return };
        // A train that came in goes out as one, if the kernel takes it.
        let train = stride * socket.max_segments().min(MAX_TRAIN / stride).max(1);
        for train in run.chunks(train) {
            socket.send_packets(train, (stride < train.len()).then_some(stride), to);
        }
    }
}
