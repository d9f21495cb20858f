//! What the Hyperspace daemon and its clients share: RPC schema, HRPC framing, socket names.
