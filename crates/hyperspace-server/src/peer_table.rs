//! The connections there are, and which of two with the same peer stays.
//!
//! When two daemons dial each other by address, two connections meet. Both sides then keep the one that the side with
//! the greater public key has dialled: they need not agree on anything else, not even on which one was there first. The
//! side whose connection goes does not dial again as long as the other one lasts.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use corestore::Replication;
use hypercore::PeerInfo;

/// All connections with peers.
#[derive(Default)]
pub(crate) struct PeerTable {
    connections: HashMap<u64, Connection>,
    next: u64,
}

struct Connection {
    peer: Arc<PeerInfo>,
    replication: Replication,
    /// For those that were dialled by address: whether this side did. The swarm sees to its own.
    dialled: Option<bool>,
}

impl PeerTable {
    pub(crate) fn len(&self) -> usize {
        self.connections.len()
    }

    pub(crate) fn peers(&self) -> Vec<Arc<PeerInfo>> {
        self.connections.values().map(|connection| connection.peer.clone()).collect()
    }

    /// Adds a connection that is there whatever others are.
    pub(crate) fn add(&mut self, peer: Arc<PeerInfo>, replication: Replication) -> u64 {
        self.insert(Connection { peer, replication, dialled: None })
    }

    /// Adds a connection that was dialled by address, and closes those that have to go for it. When it is the new one
    /// that has to go, nothing is added, and the answer is the one that stays.
    pub(crate) fn add_dialled(
        &mut self,
        own_key: &[u8; 32],
        peer: Arc<PeerInfo>,
        replication: Replication,
        dialled: bool,
    ) -> Result<u64, Replication> {
        let stays = *own_key > peer.remote_public_key;
        let others = || {
            let others = self.connections.values().filter_map(|other| Some((other, other.dialled?)));
            others.filter(|(other, _)| {
                other.peer.remote_public_key == peer.remote_public_key && !other.replication.is_closed()
            })
        };
        // Two of one side: whoever dials twice, say by two addresses of one daemon, knows whether the first one is alive
        // still. The other side does not, and keeps both.
        let lost_to = others().find(|(_, by_us)| if *by_us == dialled { dialled } else { *by_us == stays });
        if let Some((other, _)) = lost_to {
            return Err(other.replication.clone());
        }
        for (other, _) in others().filter(|(_, by_us)| *by_us != dialled) {
            other.replication.close();
        }
        Ok(self.insert(Connection { peer, replication, dialled: Some(dialled) }))
    }

    /// Sends a message in the daemon's own protocol to the peers with this public key, or to all.
    pub(crate) fn send(&self, to: Option<&[u8; 32]>, message: &Bytes) {
        for connection in self.connections.values() {
            if to.is_none_or(|key| *key == connection.peer.remote_public_key) {
                connection.replication.send_protocol(message.clone());
            }
        }
    }

    pub(crate) fn remove(&mut self, id: u64) {
        self.connections.remove(&id);
    }

    fn insert(&mut self, connection: Connection) -> u64 {
        let id = self.next;
        self.next += 1;
        self.connections.insert(id, connection);
        id
    }
}
