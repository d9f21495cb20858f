//! Messages of the DHT: whatever is read is written back the same, and a node takes any datagrams.
#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyperdht::rpc::node::Querying;
use hyperdht::rpc::{Message, Node, RpcOptions, Socket};
use libfuzzer_sys::fuzz_target;

const US: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 1000);

fuzz_target!(|data: &[u8]| {
    if let Ok(message) = Message::decode(Bytes::copy_from_slice(data)) {
        let again = message.encode().expect("what was read can be written");
        assert_eq!(Message::decode(again), Ok(message));
    }

    // The input as datagrams: one byte of length, one of sender, the rest; time passes between them.
    let mut now = Instant::now();
    let peer = |n: u8| SocketAddr::from(([10, 0, 0, n], 1000));
    let options = RpcOptions {
        bootstrap: vec![peer(2).into()],
        ..RpcOptions::bootstrapper(Ipv4Addr::new(10, 0, 0, 1), 1000)
    };
    let mut node = Node::new(options, US.port(), [7; 32], now);
    for n in 3..6 {
        node.add_node(peer(n));
    }
    let _ = node.find_node(now, [9; 32], Querying::default());
    let mut rest = data;
    while let [len, from, tail @ ..] = rest {
        let (datagram, tail) = tail.split_at(tail.len().min(usize::from(*len) * 8));
        rest = tail;
        let socket = if from & 128 == 0 { Socket::Server } else { Socket::Client };
        let mut datagram = datagram.to_vec();
        // Numbers of requests cannot be guessed, and the fuzzer shall get past them.
        while let Some(transmit) = node.poll_transmit(now) {
            if let (Ok(Message::Request(request)), [0x13, _, low, high, ..]) =
                (Message::decode(transmit.payload), &mut datagram[..])
            {
                [*low, *high] = request.tid.to_le_bytes();
            }
        }
        node.handle_datagram(now, socket, peer(from & 127), datagram.into());
        now += Duration::from_millis(300);
        node.handle_timeout(now);
        while node.poll_event().is_some() {}
    }
});
