//! Many Hypercores in one database: names, namespaces, sessions, and replication of all of them.
