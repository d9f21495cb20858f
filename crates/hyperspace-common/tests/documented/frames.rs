//! Frames with messages in them.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use hyperspace_common::{Decoder, Header, Kind, Method, Required, RpcError, decode};

/// A frame of the story.
pub(crate) struct Frame {
    pub(crate) kind: Kind,
    pub(crate) method: Method,
    pub(crate) id: u64,
    /// The bytes from the length to the call's number.
    pub(crate) head: Bytes,
    pub(crate) payload: Bytes,
    /// The payload's message in the schema; `None` when it has none.
    pub(crate) message: Option<&'static str>,
}

/// A call, or with the number 0 one that wants no answer, or an event.
pub(crate) fn call<M: Required + PartialEq + Debug>(method: Method, id: u64, message: M) -> Frame {
    frame(Kind::Request, method, id, &message)
}

/// A call of a method that takes nothing.
pub(crate) fn bare_call(method: Method, id: u64) -> Frame {
    bare(Kind::Request, method, id)
}

pub(crate) fn event<M: Required + PartialEq + Debug>(method: Method, message: M) -> Frame {
    call(method, 0, message)
}

pub(crate) fn answer<M: Required + PartialEq + Debug>(method: Method, id: u64, message: M) -> Frame {
    frame(Kind::Response, method, id, &message)
}

/// The answer that says nothing but that it was done.
pub(crate) fn done(method: Method, id: u64) -> Frame {
    bare(Kind::Response, method, id)
}

pub(crate) fn failed(method: Method, id: u64, error: &RpcError) -> Frame {
    frame(Kind::Error, method, id, error)
}

fn frame<M: Required + PartialEq + Debug>(kind: Kind, method: Method, id: u64, message: &M) -> Frame {
    let name = std::any::type_name::<M>().rsplit("::").next();
    let frame = written(kind, method, id, &message.encode_to_vec(), name);
    assert_eq!(decode::<M>(frame.payload.clone()).unwrap(), *message, "{method} as it is read again");
    frame
}

fn bare(kind: Kind, method: Method, id: u64) -> Frame {
    written(kind, method, id, &[], None)
}

fn written(kind: Kind, method: Method, id: u64, payload: &[u8], message: Option<&'static str>) -> Frame {
    let header = Header::request(method, id).with_kind(kind);
    let mut bytes = BytesMut::new();
    header.write(payload.len(), &mut bytes);
    let head = bytes.clone().freeze();
    bytes.extend_from_slice(payload);
    let read = Decoder::default().next(&bytes).unwrap().unwrap();
    assert_eq!((read.header, read.end), (header, bytes.len()), "{method} as it is read again");
    let payload = bytes.freeze().slice(read.payload);
    Frame { kind, method, id, head, payload, message }
}
