//! A multiplexer with channels of its own that takes anything from its remote. Messages are cut by a length byte.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use protomux::{Event, OpenOptions, Protomux};

fuzz_target!(|data: &[u8]| {
    let mut mux = Protomux::new();
    for (protocol, id) in [("a", None), ("a", Some(&b"b"[..])), ("c", None)] {
        let options =
            OpenOptions { id: id.map(Bytes::from_static), messages: 4, ..OpenOptions::new(protocol) };
        mux.open(options).expect("a few channels are within the limits");
    }
    let mut rest = data;
    while let Some((&length, after)) = rest.split_first() {
        let (message, next) = after.split_at(usize::from(length).min(after.len()));
        rest = next;
        let mut failed = mux.receive(Bytes::copy_from_slice(message)).is_err();
        loop {
            let event = match mux.poll_event() {
                Ok(Some(event)) => event,
                Ok(None) => break,
                Err(_) => {
                    failed = true;
                    break;
                }
            };
            // Every other channel that the remote opens is accepted.
            if let Event::RemoteOpen { protocol, id, .. } = event {
                if protocol.len() % 2 == 0 {
                    let _ = mux.open(OpenOptions { id, ..OpenOptions::new(protocol) });
                } else {
                    let _ = mux.reject(&protocol, id.as_deref());
                }
            }
        }
        while mux.poll_transmit().is_some() {}
        if failed {
            return;
        }
    }
});
