//! How fast one core encrypts and decrypts: `cargo run --release -p secret-stream --example throughput`.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use bytes::Bytes;
use secret_stream::{Config, Event, KeyPair, SecretStream};

fn main() -> Result<(), secret_stream::Error> {
    let handshake = Instant::now();
    let (mut sender, mut receiver) = connected_pair()?;
    println!("both sides of an XX handshake: {:?}", handshake.elapsed());
    for size in [20, 160, 1200, 4096, 65_536, 1_000_000] {
        let (send, receive) = measure(&mut sender, &mut receiver, &[&vec![1; size]])?;
        println!("{size:>9} bytes: encrypts {send:>5.0} MB/s, decrypts {receive:>5.0} MB/s");
    }
    let (send, _) = measure(&mut sender, &mut receiver, &[&[1; 120], &[1; 65_536], &[1; 64]])?;
    println!("    65536 bytes between a head and a tail: encrypts {send:>5.0} MB/s");
    Ok(())
}

/// Megabytes of messages per second, one side at a time.
fn measure(
    sender: &mut SecretStream,
    receiver: &mut SecretStream,
    message: &[&[u8]],
) -> Result<(f64, f64), secret_stream::Error> {
    const TOTAL: usize = 400_000_000;
    let now = Instant::now();
    let size: usize = message.iter().map(|part| part.len()).sum();
    let total = TOTAL.min(size * 2_000_000);
    let (mut sent, mut sending, mut receiving) = (0, Duration::ZERO, Duration::ZERO);
    while sent < total {
        let start = on_cpu();
        let mut pieces: Vec<Bytes> = Vec::new();
        for _ in 0..(200_000 / size).max(1) {
            sender.send_parts(message)?;
            sent += size;
        }
        while let Some(piece) = sender.poll_transmit() {
            pieces.push(piece);
        }
        sending += on_cpu() - start;
        let start = on_cpu();
        for piece in pieces {
            receiver.receive(&piece, now)?;
            while let Some(event) = receiver.poll_event() {
                assert!(matches!(event, Event::Message(text) if text.len() == size));
            }
        }
        receiving += on_cpu() - start;
    }
    let rate = |time: Duration| sent as f64 / 1e6 / time.as_secs_f64();
    Ok((rate(sending), rate(receiving)))
}

/// Time that this thread has had the processor, so that a busy machine does not count; elsewhere than on Linux the
/// time that has passed.
fn on_cpu() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    std::fs::read_to_string("/proc/thread-self/schedstat")
        .ok()
        .and_then(|text| text.split(' ').next()?.parse().ok())
        .map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn connected_pair() -> Result<(SecretStream, SecretStream), secret_stream::Error> {
    let now = Instant::now();
    let mut a = SecretStream::new(Config::new(true, KeyPair::generate()), now)?;
    let mut b = SecretStream::new(Config::new(false, KeyPair::generate()), now)?;
    loop {
        let (to_b, to_a) = (a.poll_transmit(), b.poll_transmit());
        if to_b.is_none() && to_a.is_none() {
            break;
        }
        b.receive(&to_b.unwrap_or_default(), now)?;
        a.receive(&to_a.unwrap_or_default(), now)?;
    }
    while a.poll_event().is_some() || b.poll_event().is_some() {}
    Ok((a, b))
}
