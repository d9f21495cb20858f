//! Dials a peer, asks it for a block of a core and prints the answer, unverified:
//! `cargo run -p hypercore-protocol --example ask -- 127.0.0.1:PORT KEY [INDEX]`

use std::error::Error;

use futures::StreamExt;
use hypercore::Key;
use hypercore::proof::{ProofRequest, RequestBlock, RequestUpgrade};
use hypercore_protocol::messages::{Message, Request, Synchronize};
use hypercore_protocol::{Channel, Event, ProtocolBuilder};
use tokio_util::compat::TokioAsyncReadCompatExt;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().ok_or("say the address of a peer")?;
    let key: Key = arguments.next().ok_or("say the key of a core")?.parse()?;
    let index = arguments.next().map_or(Ok(0), |index| index.parse())?;

    let socket = tokio::net::TcpStream::connect(address).await?;
    let mut protocol = ProtocolBuilder::new(true).connect(socket.compat())?;
    protocol.open(key).await?;
    let mut asking = None;
    while let Some(event) = protocol.next().await {
        match event? {
            Event::Channel(channel) => asking = Some(tokio::spawn(ask(channel, index))),
            Event::Close(_) => break,
            other => println!("{other:?}"),
        }
    }
    match asking {
        Some(asking) => asking.await?,
        None => Err("the peer does not have this core".into()),
    }
}

async fn ask(mut channel: Channel, index: u64) -> Result<(), Box<dyn Error + Send + Sync>> {
    let hello = Synchronize { can_upgrade: true, uploading: true, downloading: true, ..Default::default() };
    channel.send(Message::Synchronize(hello)).await?;
    while let Some(message) = channel.next().await {
        println!("{message:?}");
        match message {
            Message::Synchronize(remote) if remote.length > index => {
                let proof = ProofRequest {
                    block: Some(RequestBlock { index, nodes: 0 }),
                    upgrade: Some(RequestUpgrade { start: 0, length: remote.length }),
                    manifest: true,
                    ..Default::default()
                };
                channel
                    .send(Message::Request(Request { id: 1, fork: remote.fork, proof, priority: 0 }))
                    .await?;
            }
            Message::Data(_) | Message::NoData(_) => return Ok(()),
            _ => {}
        }
    }
    Err("the peer closed the channel".into())
}
