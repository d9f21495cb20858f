//! Datagrams of UDX from anywhere, for a stream that writes, reads and is asked for its answers. They are cut by two
//! length bytes; a datagram that is too short for a header gets the right beginning, so that most reach the stream.
#![no_main]

use std::time::{Duration, Instant};

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use udx::packet::{self, HEADER_SIZE};
use udx::{Config, Packet, Path, StreamState};

fuzz_target!(|data: &[u8]| {
    let mut now = Instant::now();
    let config = Config { receive_window: 100_000, ..Config::default() };
    let mut stream = StreamState::new(1, config, now);
    let path = Path { remote_id: 2, remote: ([127, 0, 0, 1], 9).into(), socket: 0, link_mtu: None };
    let (mut rest, mut buffer, mut turn) = (data, Vec::new(), 0u32);
    while let Some((&[low, high], after)) = rest.split_first_chunk() {
        let length = usize::from(u16::from_le_bytes([low, high]) % 1500);
        let (datagram, next) = after.split_at(length.min(after.len()));
        rest = next;
        let mut datagram = datagram.to_vec();
        if low & 1 == 0 && datagram.len() >= HEADER_SIZE {
            datagram[..2].copy_from_slice(&[packet::MAGIC, packet::VERSION]);
        }
        packet::readdress(&mut datagram, 1);
        if let Some(packet) = Packet::decode(Bytes::from(datagram)) {
            stream.receive(packet, now);
        }
        turn += 1;
        match turn {
            3 => drop(stream.connect(path, now)),
            5 => drop(stream.write(Bytes::from(vec![7; 20_000]))),
            9 => drop(stream.change_remote(Path { remote_id: 3, ..path }, now)),
            20 => stream.finish(),
            _ => {}
        }
        if turn % 4 == 0 {
            now += Duration::from_millis(u64::from(high) * 10);
            stream.handle_timeout(now);
            while stream.poll_transmit(now, 10, &mut buffer).is_some() {}
            buffer.clear();
            while stream.poll_event().is_some() {}
            while stream.poll_message().is_some() {}
            let _ = (stream.next_deadline(), stream.stats(), stream.writable());
        }
        if turn % 16 == 0 {
            while stream.read().is_some() {}
        }
    }
});
