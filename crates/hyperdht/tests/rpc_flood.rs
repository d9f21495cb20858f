//! A node that is flooded goes on serving, and does not grow past its bound. Alone in its binary, as it looks at the memory
//! of the whole process.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use hyperdht::rpc::node::{Answer, Asking, MEMORY_BOUND, NodeEvent};
use hyperdht::rpc::{
    Message, Node, REQUESTS_WAITING, ReplyMessage, RequestMessage, RpcOptions, Socket, Stats, code, node_id,
};

const US: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 1000);
const FLOOD: u64 = 400_000;

/// xorshift64*.
struct Random(u64);

impl Random {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn addr(&mut self) -> SocketAddr {
        let host = self.draw().to_le_bytes();
        SocketAddr::from(([host[2], host[3], host[4], host[5]], (self.draw() >> 48) as u16 | 1))
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| (self.draw() >> 32) as u8).collect()
    }
}

/// Resident memory of this process, where the system tells it.
fn resident() -> Option<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(statm.split_whitespace().nth(1)?.parse::<usize>().ok()? * 4096)
}

fn request(random: &mut Random, from: SocketAddr) -> Message {
    let len = random.draw() as usize % 1_500;
    let internal = random.draw().is_multiple_of(2);
    Message::Request(RequestMessage {
        tid: random.draw() as u16,
        to: US,
        id: Some(node_id(from)),
        token: None,
        internal,
        command: random.draw() % 6,
        target: Some([random.draw() as u8; 32]),
        value: Some(random.bytes(len).into()),
    })
}

fn forged_reply(random: &mut Random, from: SocketAddr) -> Message {
    Message::Reply(ReplyMessage {
        tid: random.draw() as u16,
        to: random.addr(),
        id: Some(node_id(from)),
        token: Some([1; 32]),
        closer: (0..20).map(|_| random.addr()).collect(),
        error: 0,
        value: Some(random.bytes(100).into()),
    })
}

/// Takes what the node has to give, as its driver does: requests wait up to a bound.
fn drain(node: &mut Node, now: Instant, waiting: &mut Vec<Bytes>) -> Vec<(SocketAddr, Bytes)> {
    let mut sent = Vec::new();
    loop {
        while let Some(transmit) = node.poll_transmit(now) {
            sent.push((transmit.to, transmit.payload));
        }
        match node.poll_event() {
            Some(NodeEvent::Request(incoming)) => {
                if waiting.len() < REQUESTS_WAITING {
                    waiting.extend(incoming.value);
                }
            }
            Some(_) => {}
            None => return sent,
        }
    }
}

fn served(node: &mut Node, now: Instant, waiting: &mut Vec<Bytes>) -> bool {
    let from = SocketAddr::from(([77, 0, 0, 1], 7));
    let ping = RequestMessage {
        tid: 7,
        to: US,
        id: None,
        token: None,
        internal: true,
        command: 0,
        target: None,
        value: None,
    };
    node.handle_datagram(now, Socket::Server, from, ping.encode().unwrap());
    drain(node, now, waiting).iter().any(|(to, _)| *to == from)
}

#[test]
fn a_flooded_node_goes_on_serving_within_its_bound() {
    let mut now = Instant::now();
    let options = RpcOptions::bootstrapper(Ipv4Addr::new(10, 0, 0, 1), US.port());
    let mut node = Node::new(options, US.port(), [7; 32], now);
    let (mut random, mut waiting) = (Random(1), Vec::new());
    assert!(served(&mut node, now, &mut waiting));
    let before = resident();

    for n in 0..FLOOD {
        // A million a second, from all over the world or from one host.
        now += Duration::from_micros(1);
        let from = if n.is_multiple_of(3) { SocketAddr::from(([66, 6, 6, 6], 6)) } else { random.addr() };
        let datagram = match n % 4 {
            0 => random.bytes(64).into(),
            1 => [&[3, 31][..], &random.bytes(200)].concat().into(),
            2 => request(&mut random, from).encode().unwrap(),
            _ => forged_reply(&mut random, from).encode().unwrap(),
        };
        node.handle_datagram(now, Socket::Server, from, datagram);
        if n % 64 == 0 {
            drain(&mut node, now, &mut waiting);
            node.handle_timeout(now);
        }
    }
    drain(&mut node, now, &mut waiting);
    if let (Some(before), Some(after)) = (before, resident()) {
        let grown = after.saturating_sub(before);
        println!("grown by {} KiB", grown / 1024);
        assert!(grown < MEMORY_BOUND, "grown by {grown} bytes");
    }
    let Stats { nodes, limited, strays, received, requests_active, .. } = node.stats();
    println!(
        "{nodes} nodes, {received} taken in, {limited} too many, {strays} strays, {requests_active} active"
    );
    assert!(nodes <= 256 * 20 && limited > 0 && strays > FLOOD / 2);

    // The next second it serves, whatever came before.
    now += Duration::from_secs(1);
    node.handle_timeout(now);
    assert!(served(&mut node, now, &mut waiting));
}

/// Who does not see our requests has to guess their numbers; who guesses the number has to be whom we asked.
#[test]
fn forged_replies_are_not_believed() {
    let now = Instant::now();
    let options = RpcOptions::bootstrapper(Ipv4Addr::new(10, 0, 0, 1), US.port());
    let mut node = Node::new(options, US.port(), [7; 32], now);
    let (asked, liar) = (SocketAddr::from(([1, 1, 1, 1], 1)), SocketAddr::from(([6, 6, 6, 6], 6)));
    let id = node.ping(now, asked, 0, Asking::default()).unwrap();
    let sent = drain(&mut node, now, &mut Vec::new());
    let Ok(Message::Request(ping)) = Message::decode(sent[0].1.clone()) else { panic!() };
    let reply = |tid| ReplyMessage {
        tid,
        to: US,
        id: None,
        token: None,
        closer: Vec::new(),
        error: code::OK,
        value: None,
    };
    for tid in 0..=u16::MAX {
        node.handle_datagram(now, Socket::Server, liar, reply(tid).encode().unwrap());
    }
    node.handle_datagram(now, Socket::Server, asked, reply(ping.tid.wrapping_add(1)).encode().unwrap());
    assert!(node.poll_event().is_none_or(|event| !matches!(event, NodeEvent::Answer(..))));
    node.handle_datagram(now, Socket::Server, asked, reply(ping.tid).encode().unwrap());
    let answered = std::iter::from_fn(|| node.poll_event())
        .any(|event| matches!(event, NodeEvent::Answer(answered, Ok(_)) if answered == id));
    assert!(answered);
}

/// Whatever is asked by somebody whose address is not verified, the answer is at most so much longer than the question as
/// that of dht-rpc: twenty nodes, an id, a token.
#[test]
fn answers_are_hardly_longer_than_questions() {
    let now = Instant::now();
    let options = RpcOptions::bootstrapper(Ipv4Addr::new(10, 0, 0, 1), US.port());
    let mut node = Node::new(options, US.port(), [7; 32], now);
    for n in 0..=255 {
        node.add_node(SocketAddr::from(([9, 9, 9, n], 9)));
    }
    let from = SocketAddr::from(([77, 0, 0, 1], 7));
    for command in 0..6 {
        for token in [None, Some([1; 32])] {
            let question = RequestMessage {
                tid: 7,
                to: US,
                id: None,
                token,
                internal: true,
                command,
                target: Some([1; 32]),
                value: Some(Bytes::from_static(&[0; 6])),
            };
            let question = question.encode().unwrap();
            node.handle_datagram(now, Socket::Server, from, question.clone());
            let mut answers = Vec::new();
            while let Some(answer) = node.poll_transmit(now) {
                answers.push(answer);
            }
            let to_them: usize =
                answers.iter().filter(|answer| answer.to == from).map(|answer| answer.payload.len()).sum();
            assert!(to_them <= question.len() + 1 + 20 * 6 + 32 + 32, "command {command}: {to_them} bytes");
        }
    }
    let answer = Answer {
        to: from,
        socket: Socket::Server,
        tid: 1,
        error: 0,
        value: None,
        closer_to: None,
        token: false,
    };
    node.reply(now, answer).unwrap();
    assert_eq!(node.poll_transmit(now).map(|transmit| transmit.payload.len()), Some(10 + 32));
}
