//! The Hyperspace daemon: stores, serves and replicates Hypercores.
