//! Two stores in two processes, one log:
//!
//! ```text
//! cargo run --release -p corestore --example peer -- write 100000 20     # prints its address and the key
//! cargo run --release -p corestore --example peer -- read 127.0.0.1:PORT KEY
//! ```

use std::error::Error;
use std::time::Instant;

use bytes::Bytes;
use corestore::{Corestore, Query, ReplicateOptions};
use hypercore::Key;
use hypercore::demand::DownloadRange;
use tokio::net::{TcpListener, TcpStream};

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["write", count, size] => write(count.parse()?, size.parse()?).await,
        ["read", address, key] => read(address, key.parse()?).await,
        _ => Err("say `write COUNT SIZE` or `read ADDRESS KEY`".into()),
    }
}

fn options(is_initiator: bool, address: String) -> ReplicateOptions {
    let identity = secret_stream::KeyPair::generate();
    ReplicateOptions::new(is_initiator, identity).remote("tcp", address)
}

async fn write(count: usize, size: usize) -> Outcome {
    let store = Corestore::memory();
    let log = store.get("log")?;
    for start in (0..count).step_by(1024) {
        let blocks = (start..count.min(start + 1024)).map(|i| {
            let mut block = format!("block {i} ").into_bytes();
            block.resize(size, b'.');
            Bytes::from(block)
        });
        log.append_batch(blocks)?;
    }
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("{} {}", listener.local_addr()?, log.key());
    loop {
        let (socket, remote) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let connection = store.replicate(socket, options(false, remote.to_string()))?;
        tokio::spawn(async move { println!("{remote}: {:?}", connection.closed().await) });
    }
}

async fn read(address: &str, key: Key) -> Outcome {
    let store = Corestore::memory();
    let log = store.get(Query::key(key))?;
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let started = Instant::now();
    let connection = store.replicate(socket, options(true, address.to_owned()))?;
    connection.opened().await?;
    log.get(0).await?;
    log.update().await?;
    let length = log.length();
    log.download(DownloadRange::new(0, length))?.await?;
    let seconds = started.elapsed().as_secs_f64();
    let megabytes = log.byte_length() as f64 / 1e6;
    println!(
        "{length} blocks, {megabytes:.1} MB in {seconds:.3} s: {:.0} blocks/s, {:.1} MB/s",
        length as f64 / seconds,
        megabytes / seconds
    );
    Ok(())
}
