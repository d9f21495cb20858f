//! The services and methods of the schema and their numbers.
//!
//! From npm `@hyperspace/rpc` 1.15, `schema.proto`, the options `hrpc.service` and `hrpc.method`. Services from 16
//! on are our own (`proto/log.proto`, `proto/store.proto`).

use std::fmt;

/// A group of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Service {
    /// The daemon itself.
    Hyperspace = 1,
    /// Opening cores.
    Corestore = 2,
    /// Working with an open core.
    Hypercore = 3,
    /// The swarm.
    Network = 4,
    /// What today's Hypercore can do with an open core. Our own.
    Log = 16,
    /// The cores that are stored. Our own.
    Store = 17,
    /// Being let in. Our own.
    Access = 18,
}

macro_rules! methods {
    ($($service:ident { $($(#[$doc:meta])* $variant:ident = $number:literal, $name:literal;)* })*) => {
        /// A method or an event of the schema.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(clippy::enum_variant_names)]
        pub enum Method {
            $($($(#[$doc])* $variant,)*)*
        }

        impl Method {
            /// Every method and event of the schema.
            pub const ALL: &'static [Self] = &[$($(Self::$variant,)*)*];

            /// The service that it belongs to.
            pub fn service(self) -> Service {
                match self { $($(Self::$variant => Service::$service,)*)* }
            }

            /// Its number within its service.
            pub fn number(self) -> u64 {
                match self { $($(Self::$variant => $number,)*)* }
            }

            /// Its name in the schema, without the service.
            pub fn name(self) -> &'static str {
                match self { $($(Self::$variant => $name,)*)* }
            }

            /// The method with these numbers.
            pub fn from_numbers(service: u64, method: u64) -> Option<Self> {
                $($(if service == Service::$service as u64 && method == $number { return Some(Self::$variant); })*)*
                None
            }
        }
    };
}

methods! {
    Hyperspace {
        /// What the daemon is.
        HyperspaceStatus = 1, "Status";
        /// End the daemon.
        HyperspaceStop = 2, "Stop";
    }
    Corestore {
        /// Start a session on a core.
        CorestoreOpen = 1, "Open";
        /// Event: a core was loaded.
        CorestoreOnFeed = 2, "OnFeed";
    }
    Hypercore {
        /// Read a block.
        HypercoreGet = 1, "Get";
        /// Add blocks.
        HypercoreAppend = 2, "Append";
        /// Ask peers for a longer length.
        HypercoreUpdate = 3, "Update";
        /// Which block holds a byte.
        HypercoreSeek = 4, "Seek";
        /// Whether a block is stored here.
        HypercoreHas = 5, "Has";
        /// End a waiting get.
        HypercoreCancel = 6, "Cancel";
        /// Fetch blocks in the background.
        HypercoreDownload = 7, "Download";
        /// How many blocks of a range are stored here.
        HypercoreDownloaded = 8, "Downloaded";
        /// End a download.
        HypercoreUndownload = 9, "Undownload";
        /// End a session.
        HypercoreClose = 10, "Close";
        /// Take messages of an extension.
        HypercoreRegisterExtension = 11, "RegisterExtension";
        /// Take no more messages of an extension.
        HypercoreUnregisterExtension = 12, "UnregisterExtension";
        /// Send an extension's message to peers.
        HypercoreSendExtension = 13, "SendExtension";
        /// Take the core's lock.
        HypercoreAcquireLock = 14, "AcquireLock";
        /// Give the core's lock back.
        HypercoreReleaseLock = 15, "ReleaseLock";
        /// Event: the core has become longer.
        HypercoreOnAppend = 16, "OnAppend";
        /// Event: the core of a weak session was closed.
        HypercoreOnClose = 17, "OnClose";
        /// Event: a peer opened the core.
        HypercoreOnPeerOpen = 18, "OnPeerOpen";
        /// Event: a peer is gone.
        HypercoreOnPeerRemove = 19, "OnPeerRemove";
        /// Event: an extension's message.
        HypercoreOnExtension = 20, "OnExtension";
        /// Event: a get found nothing here and waits for peers.
        HypercoreOnWait = 21, "OnWait";
        /// Send OnDownload events.
        HypercoreWatchDownloads = 22, "WatchDownloads";
        /// Send no more OnDownload events.
        HypercoreUnwatchDownloads = 23, "UnwatchDownloads";
        /// Event: a block came from a peer.
        HypercoreOnDownload = 24, "OnDownload";
        /// Send OnUpload events.
        HypercoreWatchUploads = 25, "WatchUploads";
        /// Send no more OnUpload events.
        HypercoreUnwatchUploads = 26, "UnwatchUploads";
        /// Event: a block went to a peer.
        HypercoreOnUpload = 27, "OnUpload";
    }
    Network {
        /// The daemon's identity and its peers.
        NetworkOpen = 1, "Open";
        /// Join or leave a topic.
        NetworkConfigure = 2, "Configure";
        /// How a topic is joined.
        NetworkStatus = 3, "Status";
        /// How all topics are joined.
        NetworkAllStatuses = 4, "AllStatuses";
        /// Take messages of an extension.
        NetworkRegisterExtension = 5, "RegisterExtension";
        /// Take no more messages of an extension.
        NetworkUnregisterExtension = 6, "UnregisterExtension";
        /// Send an extension's message to peers.
        NetworkSendExtension = 7, "SendExtension";
        /// Event: a peer connected.
        NetworkOnPeerAdd = 8, "OnPeerAdd";
        /// Event: a peer is gone.
        NetworkOnPeerRemove = 9, "OnPeerRemove";
        /// Event: an extension's message.
        NetworkOnExtension = 10, "OnExtension";
    }
    Log {
        /// What the core is now.
        LogState = 1, "State";
        /// Cut the core and move it to another fork.
        LogTruncate = 2, "Truncate";
        /// Remove blocks from storage.
        LogClear = 3, "Clear";
        /// Who may sign.
        LogManifest = 4, "Manifest";
        /// Start a session that stays at the present length.
        LogSnapshot = 5, "Snapshot";
        /// A named value beside the core.
        LogUserData = 6, "UserData";
        /// Store a named value beside the core.
        LogSetUserData = 7, "SetUserData";
        /// Event: blocks are gone.
        LogOnTruncate = 8, "OnTruncate";
    }
    Store {
        /// Start a session on a core, said more exactly.
        StoreOpen = 1, "Open";
        /// The cores that are stored.
        StoreList = 2, "List";
        /// The names of a namespace.
        StoreNames = 3, "Names";
        /// The daemon in figures.
        StoreStats = 4, "Stats";
    }
    Access {
        /// Show an access token.
        AccessPresent = 1, "Present";
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}.{}", self.service(), self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back() {
        for &method in Method::ALL {
            assert_eq!(Method::from_numbers(method.service() as u64, method.number()), Some(method));
        }
        assert_eq!(Method::ALL.len(), 41 + 13);
        assert_eq!(Method::from_numbers(3, 28), None);
        assert_eq!(Method::from_numbers(u64::MAX, 1), None);
        assert_eq!(Method::HypercoreOnAppend.to_string(), "Hypercore.OnAppend");
    }
}
