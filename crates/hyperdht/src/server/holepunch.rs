//! A server's answers to notes about hole punching (npm `hyperdht` 6.34, `_onpeerholepunch`).

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use udx::UdxSocket;

use super::{Punching, ServerCore};
use crate::PunchRequest;
use crate::core::{Core, count, is_fine, lock};
use crate::messages::{Firewall, HolepunchPayload, error, ipv4, socket_addrs};
use crate::router::Call;
use crate::rpc::Request;

/// How long punching may take, of which a bit more than half a minute is sending.
const PUNCHING: Duration = Duration::from_secs(45);

/// The answer to a note: from this socket, or the node's own.
type Reply = (Option<UdxSocket>, HolepunchPayload);

impl ServerCore {
    /// A note of a client.
    pub(crate) fn on_holepunch(self: &Arc<Self>, core: &Arc<Core>, call: Call, request: Request) {
        if !self.takes_calls() {
            return;
        }
        let punching = lock(&self.handshakes).attempts.get(&call.id).and_then(|a| a.punching.clone());
        let Some(punching) = punching else { return };
        let (server, core) = (Arc::clone(self), Arc::clone(core));
        tokio::spawn(async move {
            // Ends with the attempt: the wait for our NAT's kind is what can take a while.
            let reply = server.consider(&core, &punching, &call, &request).await;
            let Some((socket, note)) = reply else { return };
            let Some(relay) = call.back else { return };
            let value = call.answer_holepunch(punching.notes.seal(&note));
            let socket = socket.unwrap_or_else(|| core.rpc.socket());
            request.relay(Some(value), relay, Some(&socket));
        });
    }

    async fn consider(
        &self,
        core: &Core,
        punching: &Punching,
        call: &Call,
        request: &Request,
    ) -> Option<Reply> {
        let note = punching.notes.open(&call.payload)?;
        let puncher = &punching.puncher;
        // Gone when it is connected: the client knows by now.
        let socket = puncher.socket()?;
        if !punching.heard.swap(true, Ordering::Relaxed) {
            // A note that opens comes from the caller itself, which has got our answer: its time begins anew, once.
            let until = Instant::now() + self.options.half_open_timeout;
            lock(&self.handshakes).table.extend(call.id, until);
            puncher.heard();
        }
        if !is_fine(note.error) {
            return Some(self.abort(core, punching, call, note.round));
        }
        // A node that we announced ourselves at: what comes back from there has really been there.
        let through_our_relay =
            self.announcer().is_some_and(|announcer| announcer.is_relay(request.from.addr));
        let token = punching.notes.token(call.client.ip());
        let echoed = through_our_relay && note.remote_token == Some(token);
        if request.socket.same_socket(&socket) {
            puncher.add_sample(request.to, request.from.addr);
        }
        {
            let mut round = lock(&punching.round);
            if note.round >= *round {
                *round = note.round;
                let addresses = note.addresses.as_deref().map(socket_addrs).unwrap_or_default();
                let verified = echoed.then(|| call.client.ip());
                puncher.update_remote(note.firewall, note.punching, &addresses, verified);
            }
        }
        if !puncher.analyze(false).await
            && !puncher.remote_is_punching()
            && !puncher.is_over()
            && !puncher.analyze(true).await
        {
            return Some(self.abort(core, punching, call, note.round));
        }
        if puncher.is_over() {
            return None;
        }
        let local = puncher.local();
        if local.firewall.is_consistent()
            && let Some(opened) = note.remote_address.map(SocketAddr::V4)
            && local.addresses.as_ref().is_some_and(|addresses| addresses.contains(&opened))
        {
            // The client has opened its NAT for where we are: one packet may be all it takes.
            puncher.ping(call.client);
        }
        if puncher.remote_is_punching() {
            if let Some(answer) = self.punch(core, punching, call, &note, through_our_relay) {
                return Some(answer);
            }
            if puncher.is_over() {
                return None;
            }
        }
        let local = puncher.local();
        if local.firewall != Firewall::Unknown {
            // What the client is told now must stay true.
            puncher.freeze();
        }
        let answer = self.note(punching, call, note.remote_token_echo(), through_our_relay);
        Some((puncher.socket(), answer))
    }

    /// Begins to punch; gives the answer when that cannot be.
    fn punch(
        &self,
        core: &Core,
        punching: &Punching,
        call: &Call,
        note: &HolepunchPayload,
        through_our_relay: bool,
    ) -> Option<Reply> {
        let puncher = &punching.puncher;
        let local = puncher.local();
        let request = PunchRequest {
            remote_is_random: puncher.remote_firewall() == Firewall::Random,
            local_is_random: local.firewall == Firewall::Random,
        };
        if self.options.holepunch.as_ref().is_some_and(|ask| !ask(&request)) {
            return Some(self.abort(core, punching, call, note.round));
        }
        let random = request.remote_is_random || request.local_is_random;
        if random && !local.punching && !core.budget.is_free(Instant::now()) {
            count(&core.counters.punches_later);
            let mut answer = self.note(punching, call, note.remote_token_echo(), through_our_relay);
            if !punching.relayed {
                answer = HolepunchPayload { round: answer.round, ..HolepunchPayload::default() };
            }
            answer.error = error::TRY_LATER;
            return Some((puncher.socket(), answer));
        }
        lock(&self.handshakes).table.extend(call.id, Instant::now() + PUNCHING);
        if !puncher.punch(&core.budget) {
            return Some(self.abort(core, punching, call, note.round));
        }
        None
    }

    fn note(
        &self,
        punching: &Punching,
        call: &Call,
        remote_token: Option<[u8; 32]>,
        through_our_relay: bool,
    ) -> HolepunchPayload {
        let local = punching.puncher.local();
        HolepunchPayload {
            error: error::NONE,
            firewall: local.firewall,
            round: *lock(&punching.round),
            connected: false,
            punching: local.punching,
            addresses: local.addresses.map(|list| list.into_iter().filter_map(ipv4).collect()),
            remote_address: None,
            token: through_our_relay.then(|| punching.notes.token(call.client.ip())),
            remote_token,
        }
    }

    /// Nothing will come of it: without a blind relay the attempt ends here.
    fn abort(&self, core: &Core, punching: &Punching, call: &Call, round: u64) -> Reply {
        if punching.relayed {
            // The connection may stay at its relay for long, and needs no socket for that.
            self.stop_punching(call.id);
        } else {
            let attempt = lock(&self.handshakes).attempts.remove(&call.id);
            drop(attempt);
            self.finish(call.id);
        }
        let note = HolepunchPayload { error: error::ABORTED, round, ..HolepunchPayload::default() };
        (Some(core.rpc.socket()), note)
    }
}

impl HolepunchPayload {
    /// The client's token goes back to it: whoever can say it has seen the client's note.
    fn remote_token_echo(&self) -> Option<[u8; 32]> {
        self.token
    }
}
