//! Why a WebSocket ends, as the other side is told.

use std::borrow::Cow;

use tokio_tungstenite::tungstenite::protocol::{CloseFrame, frame::coding::CloseCode};

/// The longest reason: a close frame has 125 bytes, and the code takes two (RFC 6455, 5.5).
const MAX_REASON: usize = 123;

/// A close code (RFC 6455, 7.4) and a sentence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Close {
    /// The code.
    pub code: u16,
    /// Why.
    pub reason: Cow<'static, str>,
}

impl Close {
    /// With this code and this reason, of which as much is sent as there is room for.
    pub fn new(code: u16, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reason: reason.into() }
    }

    /// Everything was done: 1000.
    pub fn normal(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(1000, reason)
    }

    /// This side goes away: 1001.
    pub fn going_away(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(1001, reason)
    }

    /// The other side does not keep to the protocol: 1002.
    pub fn protocol(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(1002, reason)
    }

    /// The other side sent a kind of message that is not taken: 1003.
    pub(crate) fn unsupported(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(1003, reason)
    }

    /// The other side did what it should not, and no other code says it: 1008.
    pub fn policy(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(1008, reason)
    }

    /// A message was too large: 1009.
    pub(crate) fn too_big(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(1009, reason)
    }

    /// There is no room now; later there may be: 1013 (IANA's registry of close codes).
    pub fn try_again_later(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::new(1013, reason)
    }

    /// Whether nothing is wrong.
    pub fn is_normal(&self) -> bool {
        matches!(self.code, 1000 | 1001 | 1005)
    }

    pub(crate) fn frame(&self) -> CloseFrame {
        let end = (0..=self.reason.len().min(MAX_REASON)).rev().find(|at| self.reason.is_char_boundary(*at));
        CloseFrame { code: CloseCode::from(self.code), reason: self.reason[..end.unwrap_or(0)].into() }
    }

    pub(crate) fn received(frame: Option<&CloseFrame>) -> Self {
        frame.map_or_else(
            || Self::new(1005, ""),
            |frame| Self::new(frame.code.into(), frame.reason.as_str().to_owned()),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_reason_is_cut_between_characters() {
        let frame = Close::protocol("ü".repeat(100)).frame();
        assert_eq!((u16::from(frame.code), frame.reason.as_str()), (1002, &*"ü".repeat(61)));
        assert_eq!(Close::received(Some(&frame)).code, 1002);
        assert!(Close::received(None).is_normal());
    }
}
