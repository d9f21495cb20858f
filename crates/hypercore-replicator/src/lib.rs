//! Who has what, who asks whom: the replication state machine of one Hypercore.
