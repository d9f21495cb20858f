//! RemoteCorestore and RemoteHypercore: Hypercores that live in a Hyperspace daemon.
