//! protomux.
