//! The handshakes of a server that are under way, or were a moment ago.
//!
//! A client sends the same first message through several nodes, and repeats it: all of them get the same answer. What is
//! kept for somebody who has proven nothing yet is bounded in number, for each host and in total, and in time.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::handshake::digest;
use crate::options::HALF_OPEN_TIMEOUT;

/// Handshakes that wait for a connection, of all clients together.
pub(crate) const MAX_HALF_OPEN: usize = 1024;
/// Handshakes that wait for a connection, of one host (those of loopback count only in total).
pub(crate) const MAX_HALF_OPEN_PER_HOST: usize = 64;
/// Handshakes that are over but remembered for late repetitions; then the oldest go first.
pub(crate) const MAX_REMEMBERED: usize = 4096;
/// How long a handshake is remembered when it is over (npm `hyperdht` 6.34, `HANDSHAKE_CLEAR_WAIT`).
pub(crate) const REMEMBER: Duration = Duration::from_secs(10);

/// Names a handshake for as long as it is in the table.
pub(crate) type HandshakeId = u64;

/// What a first message of a client leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Begin<R> {
    /// A new handshake: find out what to answer, and say so with [`HandshakeTable::answered`].
    New(HandshakeId),
    /// The same message is being looked at: the answer will be for this one as well.
    Pending(HandshakeId),
    /// It was answered before.
    Known(Option<R>),
    /// Too many are under way.
    Refused,
}

/// The handshakes of one server. `R` is what has to be remembered of an answer.
#[derive(Debug)]
pub(crate) struct HandshakeTable<R> {
    entries: HashMap<HandshakeId, Entry<R>>,
    by_message: HashMap<[u8; 32], HandshakeId>,
    half_open: usize,
    half_open_by_host: HashMap<IpAddr, usize>,
    /// How long a client may take from our answer to a connection.
    timeout: Duration,
    next_id: HandshakeId,
}

#[derive(Debug)]
struct Entry<R> {
    message: [u8; 32],
    host: IpAddr,
    answer: Option<Option<R>>,
    half_open: bool,
    /// When it is removed; later while somebody punches or relays.
    until: Instant,
}

impl<R: Clone> HandshakeTable<R> {
    pub(crate) fn new(timeout: Duration) -> Self {
        Self {
            entries: HashMap::new(),
            by_message: HashMap::new(),
            half_open: 0,
            half_open_by_host: HashMap::new(),
            timeout,
            next_id: 0,
        }
    }

    /// A first message came from a client at `from`.
    pub(crate) fn begin(&mut self, message: &[u8], from: SocketAddr, now: Instant) -> Begin<R> {
        let message = digest(&[], &[message]);
        if let Some(id) = self.by_message.get(&message)
            && let Some(entry) = self.entries.get(id)
        {
            return match &entry.answer {
                None => Begin::Pending(*id),
                Some(answer) => Begin::Known(answer.clone()),
            };
        }
        let host = from.ip();
        let of_host = self.half_open_by_host.get(&host).copied().unwrap_or(0);
        let host_is_full = of_host >= MAX_HALF_OPEN_PER_HOST && !host.is_loopback();
        if self.half_open >= MAX_HALF_OPEN || host_is_full {
            return Begin::Refused;
        }
        self.make_room();
        // Numbers go to clients: small ones, never used twice at once.
        let id = self.next_id;
        self.next_id = (self.next_id + 1) % (1 << 32);
        self.half_open += 1;
        *self.half_open_by_host.entry(host).or_default() += 1;
        self.by_message.insert(message, id);
        let until = now + self.timeout;
        let entry = Entry { message, host, answer: None, half_open: true, until };
        self.entries.insert(id, entry);
        Begin::New(id)
    }

    /// What every repetition of the message gets: `None` is silence.
    pub(crate) fn answered(&mut self, id: HandshakeId, answer: Option<R>) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.answer = Some(answer);
        }
    }

    /// There is work for this handshake (holes are punched, a relay is asked) until then at most.
    pub(crate) fn extend(&mut self, id: HandshakeId, until: Instant) {
        if let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.half_open) {
            entry.until = entry.until.max(until);
        }
    }

    /// It is over, with or without a connection: from now on it is only remembered, and of its answer what `strip`
    /// leaves.
    pub(crate) fn finish(&mut self, id: HandshakeId, now: Instant, strip: impl FnOnce(&mut R)) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.half_open) else {
            return;
        };
        entry.half_open = false;
        entry.until = now + REMEMBER;
        if let Some(Some(answer)) = &mut entry.answer {
            strip(answer);
        }
        let host = entry.host;
        self.closed(host);
    }

    /// When [`HandshakeTable::expire`] has something to do.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.entries.values().map(|entry| entry.until).min()
    }

    /// Forgets what is due: the handshakes that ended by that without a connection.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<HandshakeId> {
        let due: Vec<_> =
            self.entries.iter().filter(|(_, entry)| entry.until <= now).map(|(id, _)| *id).collect();
        due.into_iter().filter(|id| self.remove(*id)).collect()
    }

    /// Forgets everything: the handshakes that ended by that.
    pub(crate) fn clear(&mut self) -> Vec<HandshakeId> {
        let all: Vec<_> = self.entries.keys().copied().collect();
        all.into_iter().filter(|id| self.remove(*id)).collect()
    }

    /// Handshakes that wait for a connection.
    pub(crate) fn half_open(&self) -> usize {
        self.half_open
    }

    /// Handshakes in the table.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    fn make_room(&mut self) {
        if self.entries.len() - self.half_open < MAX_REMEMBERED {
            return;
        }
        let over = self.entries.iter().filter(|(_, entry)| !entry.half_open);
        if let Some(oldest) = over.min_by_key(|(_, entry)| entry.until).map(|(id, _)| *id) {
            self.remove(oldest);
        }
    }

    /// True when it was half open.
    fn remove(&mut self, id: HandshakeId) -> bool {
        let Some(entry) = self.entries.remove(&id) else {
            return false;
        };
        self.by_message.remove(&entry.message);
        if entry.half_open {
            self.closed(entry.host);
        }
        entry.half_open
    }

    fn closed(&mut self, host: IpAddr) {
        self.half_open = self.half_open.saturating_sub(1);
        if let Some(of_host) = self.half_open_by_host.get_mut(&host) {
            *of_host = of_host.saturating_sub(1);
            if *of_host == 0 {
                self.half_open_by_host.remove(&host);
            }
        }
    }
}

/// Any order of events: the counts stay right and within bounds.
pub(crate) fn fuzz(data: &[u8], start: Instant, step: Duration) {
    let mut table = HandshakeTable::new(HALF_OPEN_TIMEOUT);
    let (mut now, mut known) = (start, Vec::new());
    for pair in data.chunks_exact(2) {
        let [what, which] = [pair[0], pair[1]];
        let id = known.get(usize::from(which) % known.len().max(1)).copied().unwrap_or(0);
        match what % 6 {
            0 | 1 => {
                let from = SocketAddr::from(([what, 1, 1, which % 4], 1));
                if let Begin::New(id) = table.begin(&[what, which], from, now) {
                    known.push(id);
                }
            }
            2 => table.answered(id, Some(which)),
            3 => table.finish(id, now, |answer| *answer = 0),
            4 => table.extend(id, now + 10 * step),
            _ => {
                now += step;
                table.expire(now);
            }
        }
        assert!(table.half_open() <= MAX_HALF_OPEN);
        assert_eq!(table.half_open(), table.entries.values().filter(|entry| entry.half_open).count());
        assert_eq!(table.half_open(), table.half_open_by_host.values().sum::<usize>());
        assert_eq!(table.by_message.len(), table.entries.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Table = HandshakeTable<u8>;

    fn client(host: u32, port: u16) -> SocketAddr {
        SocketAddr::from((std::net::Ipv4Addr::from(0x0500_0000 + host), port))
    }

    fn new(table: &mut Table, message: &[u8], from: SocketAddr, now: Instant) -> HandshakeId {
        match table.begin(message, from, now) {
            Begin::New(id) => id,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn repetitions_get_the_first_answer() {
        let (mut table, now) = (Table::new(HALF_OPEN_TIMEOUT), Instant::now());
        let id = new(&mut table, b"hello", client(1, 1), now);
        assert_eq!(table.begin(b"hello", client(2, 1), now), Begin::Pending(id));
        table.answered(id, Some(7));
        assert_eq!(table.begin(b"hello", client(2, 1), now), Begin::Known(Some(7)));
        table.finish(id, now, |answer| *answer += 1);
        assert_eq!(table.half_open(), 0);
        assert_eq!(table.begin(b"hello", client(1, 1), now), Begin::Known(Some(8)));
        assert_eq!(table.expire(now + REMEMBER - Duration::from_millis(1)), []);
        assert_eq!(table.len(), 1);
        // Not "ended without a connection": it was over before.
        assert_eq!(table.expire(now + REMEMBER), []);
        assert_eq!(table.len(), 0);
    }

    #[test]
    fn who_never_connects_is_forgotten() {
        let (mut table, now) = (Table::new(HALF_OPEN_TIMEOUT), Instant::now());
        let id = new(&mut table, b"hello", client(1, 1), now);
        assert_eq!(table.next_deadline(), Some(now + HALF_OPEN_TIMEOUT));
        table.extend(id, now + 4 * HALF_OPEN_TIMEOUT);
        assert_eq!(table.expire(now + HALF_OPEN_TIMEOUT), []);
        assert_eq!(table.expire(now + 4 * HALF_OPEN_TIMEOUT), [id]);
        assert_eq!((table.half_open(), table.len(), table.next_deadline()), (0, 0, None));
    }

    #[test]
    fn one_host_does_not_take_the_room_of_all() {
        let (mut table, now) = (Table::new(HALF_OPEN_TIMEOUT), Instant::now());
        for n in 0..MAX_HALF_OPEN_PER_HOST {
            new(&mut table, &n.to_le_bytes(), client(1, 1), now);
        }
        assert_eq!(table.begin(b"more", client(1, 2), now), Begin::Refused);
        new(&mut table, b"more", client(2, 1), now);
    }

    #[test]
    fn a_flood_is_bounded_and_passes() {
        let (mut table, now) = (Table::new(HALF_OPEN_TIMEOUT), Instant::now());
        let mut refused = 0;
        for n in 0..100_000u32 {
            refused += usize::from(table.begin(&n.to_le_bytes(), client(n, 1), now) == Begin::Refused);
        }
        assert_eq!((table.half_open(), refused), (MAX_HALF_OPEN, 100_000 - MAX_HALF_OPEN));
        let later = now + HALF_OPEN_TIMEOUT;
        assert_eq!(table.expire(later).len(), MAX_HALF_OPEN);
        assert!(table.half_open_by_host.is_empty() && table.by_message.is_empty());
        new(&mut table, b"honest", client(1, 1), later);
    }

    #[test]
    fn what_is_over_makes_room_oldest_first() {
        let (mut table, start) = (Table::new(HALF_OPEN_TIMEOUT), Instant::now());
        for n in 0..u32::try_from(MAX_REMEMBERED).unwrap() + 10 {
            let now = start + Duration::from_micros(n.into());
            let id = new(&mut table, &n.to_le_bytes(), client(n, 1), now);
            table.answered(id, Some(1));
            table.finish(id, now, |answer| *answer += 1);
        }
        assert!(table.len() <= MAX_REMEMBERED + 1);
        assert!(matches!(table.begin(&0u32.to_le_bytes(), client(0, 1), start), Begin::New(_)));
        assert!(matches!(table.begin(&4000u32.to_le_bytes(), client(0, 1), start), Begin::Known(_)));
    }
}
