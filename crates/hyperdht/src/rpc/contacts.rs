//! The nodes that a node knows: the routing table, and the order in which it heard from them.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::NodeId;
use super::peer::compare_distance;
use super::rng::Rng;

/// Nodes in a row, in a reply, and nearest to a target (kademlia-routing-table 1, `k`).
pub(crate) const K: usize = 20;
/// One row for every length of prefix that a node's id can share with ours.
const ROWS: usize = 256;

/// A node that we know. Times are in ticks.
#[derive(Debug, Clone)]
pub(crate) struct Contact {
    pub(crate) id: NodeId,
    pub(crate) addr: SocketAddr,
    /// Us, as it sees us.
    pub(crate) to: Option<SocketAddr>,
    /// When that was last taken into the NAT sampler; 0: never.
    pub(crate) sampled: u64,
    /// When it came into the table.
    pub(crate) added: u64,
    /// When we last dealt with it.
    pub(crate) pinged: u64,
    /// When we last heard from it.
    pub(crate) seen: u64,
    /// How often we were told that it is down.
    pub(crate) down_hints: u32,
    heard: u64,
}

impl Contact {
    pub(crate) fn new(id: NodeId, addr: SocketAddr, to: Option<SocketAddr>) -> Self {
        Self { id, addr, to, sampled: 0, added: 0, pinged: 0, seen: 0, down_hints: 0, heard: 0 }
    }
}

/// What came of adding a contact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Added {
    /// It is in the table.
    Yes,
    /// It was in the table before; nothing was changed.
    Known,
    /// Its row is full.
    RowFull,
    /// It is ourselves.
    Ourselves,
}

/// At most [`K`] nodes for every length of prefix shared with our id: most of those nearby, few of the many far away.
#[derive(Debug)]
pub(crate) struct Contacts {
    own: NodeId,
    /// Sorted by id.
    rows: Vec<Vec<Contact>>,
    /// By when we heard from them, oldest first.
    by_age: BTreeMap<u64, NodeId>,
    clock: u64,
}

impl Contacts {
    pub(crate) fn new(own: NodeId) -> Self {
        Self { own, rows: vec![Vec::new(); ROWS], by_age: BTreeMap::new(), clock: 0 }
    }

    pub(crate) fn own_id(&self) -> NodeId {
        self.own
    }

    pub(crate) fn len(&self) -> usize {
        self.by_age.len()
    }

    pub(crate) fn get(&self, id: &NodeId) -> Option<&Contact> {
        let row = self.row(id)?;
        let at = position(row, id).ok()?;
        row.get(at)
    }

    pub(crate) fn get_mut(&mut self, id: &NodeId) -> Option<&mut Contact> {
        let index = self.row_index(id)?;
        let row = self.rows.get_mut(index)?;
        let at = position(row, id).ok()?;
        row.get_mut(at)
    }

    /// Puts a contact where it belongs, as the one heard from last, if there is room.
    pub(crate) fn add(&mut self, mut contact: Contact) -> Added {
        let id = contact.id;
        let Some(row) = self.row_index(&id).and_then(|index| self.rows.get_mut(index)) else {
            return Added::Ourselves;
        };
        match position(row, &id) {
            Ok(_) => Added::Known,
            Err(_) if row.len() >= K => Added::RowFull,
            Err(at) => {
                self.clock += 1;
                contact.heard = self.clock;
                row.insert(at, contact);
                self.by_age.insert(self.clock, id);
                Added::Yes
            }
        }
    }

    /// We heard from it.
    pub(crate) fn touch(&mut self, id: &NodeId) {
        self.clock += 1;
        let clock = self.clock;
        let Some(contact) = self.get_mut(id) else { return };
        let before = std::mem::replace(&mut contact.heard, clock);
        self.by_age.remove(&before);
        self.by_age.insert(clock, *id);
    }

    pub(crate) fn remove(&mut self, id: &NodeId) -> Option<Contact> {
        let index = self.row_index(id)?;
        let row = self.rows.get_mut(index)?;
        let at = position(row, id).ok()?;
        let contact = row.remove(at);
        self.by_age.remove(&contact.heard);
        Some(contact)
    }

    /// The nodes that share as long a prefix with us as `id` does.
    pub(crate) fn row(&self, id: &NodeId) -> Option<&[Contact]> {
        self.row_index(id).and_then(|index| self.rows.get(index)).map(Vec::as_slice)
    }

    /// The `count` nodes nearest to `target`, nearest first.
    ///
    /// Nodes of the target's own row are nearest to it; those of the rows behind it, which are nearer to us, come next
    /// (they all first differ from the target where we do); then the rows before it, one by one.
    pub(crate) fn closest(&self, target: &NodeId, count: usize) -> Vec<&Contact> {
        let index = self.row_index(target).unwrap_or(ROWS - 1);
        let mut found: Vec<&Contact> = Vec::new();
        let (before, from) = self.rows.split_at(index);
        if let Some((own, behind)) = from.split_first() {
            take_nearest(&mut found, own.iter().collect(), target, count);
            if found.len() < count {
                take_nearest(&mut found, behind.iter().flatten().collect(), target, count);
            }
        }
        for row in before.iter().rev() {
            if found.len() >= count {
                break;
            }
            take_nearest(&mut found, row.iter().collect(), target, count);
        }
        found
    }

    /// Any of them.
    pub(crate) fn random(&self, rng: &mut Rng) -> Option<&Contact> {
        self.rows.iter().flatten().nth(rng.below(self.len()))
    }

    /// From the one not heard from for longest to the one heard from last.
    pub(crate) fn oldest_first(&self) -> impl DoubleEndedIterator<Item = &Contact> {
        self.by_age.values().filter_map(|id| self.get(id))
    }

    /// Gives us another id, and keeps of the nodes what then has room.
    pub(crate) fn move_to(&mut self, own: NodeId) {
        let mut moved = Self::new(own);
        let ids: Vec<NodeId> = self.by_age.values().copied().collect();
        // Where not all have room, those that were there first stay; their order stays as well.
        let contacts: Vec<Contact> = ids.iter().filter_map(|id| self.remove(id)).collect();
        for contact in contacts {
            moved.add(contact);
        }
        *self = moved;
    }

    /// Where `id` first differs from ours, in bits; `None` if it does not.
    fn row_index(&self, id: &NodeId) -> Option<usize> {
        let differing = self.own.iter().zip(id).enumerate().find(|(_, (own, id))| own != id);
        let (byte, (own, id)) = differing?;
        Some(byte * 8 + (own ^ id).leading_zeros() as usize)
    }
}

fn position(row: &[Contact], id: &NodeId) -> Result<usize, usize> {
    row.binary_search_by(|contact| contact.id.cmp(id))
}

fn take_nearest<'a>(found: &mut Vec<&'a Contact>, mut from: Vec<&'a Contact>, target: &NodeId, count: usize) {
    let by_distance = |a: &&Contact, b: &&Contact| -> Ordering { compare_distance(target, &a.id, &b.id) };
    from.sort_unstable_by(by_distance);
    from.truncate(count.saturating_sub(found.len()));
    found.append(&mut from);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::node_id;

    fn contact(n: u16) -> Contact {
        let addr = SocketAddr::from(([10, 0, (n >> 8) as u8, n as u8], 1000));
        Contact::new(node_id(addr), addr, None)
    }

    /// A table with as many of `n` nodes as it has room for.
    fn table(n: u16) -> Contacts {
        let mut contacts = Contacts::new(contact(9999).id);
        for n in 0..n {
            contacts.add(contact(n));
        }
        contacts
    }

    #[test]
    fn the_closest_are_the_closest() {
        let contacts = table(500);
        assert!(contacts.len() > 80 && contacts.len() < 250, "{}", contacts.len());
        for n in 0..200 {
            let target = contact(20_000 + n).id;
            let mut all: Vec<&Contact> = contacts.oldest_first().collect();
            all.sort_by(|a, b| compare_distance(&target, &a.id, &b.id));
            let wanted: Vec<NodeId> = all.iter().take(K).map(|contact| contact.id).collect();
            let found: Vec<NodeId> = contacts.closest(&target, K).iter().map(|contact| contact.id).collect();
            assert_eq!(found, wanted);
        }
    }

    #[test]
    fn rows_fill_up_and_ourselves_we_do_not_know() {
        let mut contacts = table(500);
        let own = contacts.own_id();
        assert!(contacts.rows.iter().all(|row| row.len() <= K && row.is_sorted_by_key(|contact| contact.id)));
        let far = (500..).map(contact).find(|contact| (contact.id[0] ^ own[0]) & 0x80 != 0).unwrap();
        assert_eq!(contacts.add(far.clone()), Added::RowFull);
        assert_eq!(contacts.add(Contact { id: own, ..far }), Added::Ourselves);
        let known = contacts.oldest_first().next().unwrap().clone();
        assert_eq!(contacts.add(known), Added::Known);
    }

    #[test]
    fn the_one_heard_from_is_the_youngest() {
        let mut contacts = table(30);
        let oldest = contacts.oldest_first().next().unwrap().id;
        contacts.touch(&oldest);
        assert_eq!(contacts.oldest_first().next_back().unwrap().id, oldest);
        assert_ne!(contacts.oldest_first().next().unwrap().id, oldest);
        let before = contacts.len();
        assert_eq!(contacts.remove(&oldest).unwrap().id, oldest);
        assert!(contacts.remove(&oldest).is_none() && contacts.get(&oldest).is_none());
        assert_eq!(contacts.len(), before - 1);
        assert_eq!(contacts.oldest_first().count(), before - 1);
    }

    #[test]
    fn another_id_keeps_what_has_room() {
        let mut contacts = table(500);
        let ages: Vec<NodeId> = contacts.oldest_first().map(|contact| contact.id).collect();
        contacts.move_to(contact(7).id);
        assert!(contacts.get(&contact(7).id).is_none());
        assert!(contacts.len() > 40, "{}", contacts.len());
        let kept: Vec<NodeId> = contacts.oldest_first().map(|contact| contact.id).collect();
        let mut rest = ages.iter();
        assert!(kept.iter().all(|id| rest.any(|other| other == id)), "the order of age changed");
    }

    #[test]
    fn any_of_them_is_any_of_them() {
        let contacts = table(30);
        let mut rng = Rng::new([1; 32]);
        let drawn: std::collections::HashSet<NodeId> =
            (0..500).map(|_| contacts.random(&mut rng).unwrap().id).collect();
        assert_eq!(drawn.len(), 30);
        assert!(Contacts::new([0; 32]).random(&mut rng).is_none());
    }
}
