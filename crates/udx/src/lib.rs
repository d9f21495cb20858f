//! Reliable, congestion-controlled streams over UDP, as npm udx-native speaks them.

#![forbid(unsafe_code)]
