//! A server with its clients in one process, for other people's tests.

use std::io;

use hyperspace_client::{ClientError, HyperspaceClient, RemoteCorestore};
use tempfile::TempDir;

use crate::{Server, ServerOptions, StartError};

/// How much may be on its way between the server and a client.
const BUFFER: usize = 64 << 10;

/// A server in memory, with clients that need no socket. All of it is gone when it is dropped or stopped.
///
/// ```
/// use hyperspace_server::Simulator;
///
/// # tokio::runtime::Runtime::new().unwrap().block_on(async {
/// let simulator = Simulator::start().await?;
/// let log = simulator.corestore().create().await?;
/// log.append("hello").await?;
///
/// let other = simulator.client();
/// let copy = other.corestore().get(&log.key()).await?;
/// assert_eq!(copy.get(0).await?, "hello");
/// simulator.stop().await;
/// # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
/// ```
#[derive(Debug)]
pub struct Simulator {
    server: Server,
    client: HyperspaceClient,
    folder: Option<TempDir>,
}

impl Simulator {
    /// A server in memory, without a socket and without peers.
    pub async fn start() -> Result<Self, StartError> {
        Self::with_options(ServerOptions::default()).await
    }

    /// A server as these options say.
    pub async fn with_options(options: ServerOptions) -> Result<Self, StartError> {
        let server = Server::start(options).await?;
        let client = client_of(&server);
        Ok(Self { server, client, folder: None })
    }

    /// A server in memory with a UNIX socket in a temporary folder, for clients that are other processes:
    /// [`Server::socket`] says where.
    pub async fn with_socket() -> Result<Self, SimulatorError> {
        let folder = tempfile::tempdir()?;
        let socket = Some(folder.path().join("hyperspace.sock"));
        let simulator = Self::with_options(ServerOptions { socket, ..ServerOptions::default() }).await?;
        Ok(Self { folder: Some(folder), ..simulator })
    }

    /// The server.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// A further client, with a connection of its own.
    pub fn client(&self) -> HyperspaceClient {
        client_of(&self.server)
    }

    /// The cores, as the simulator's own client sees them.
    pub fn corestore(&self) -> RemoteCorestore {
        self.client.corestore()
    }

    /// Whether the simulator's own client is still connected; `None` while it is.
    pub fn closed(&self) -> Option<ClientError> {
        self.client.closed()
    }

    /// Ends the clients and the server, and removes what was made for them.
    pub async fn stop(self) {
        let Self { server, client, folder } = self;
        client.close();
        server.stop().await;
        drop(folder);
    }
}

/// Why there is no simulator.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SimulatorError {
    /// There is no temporary folder.
    #[error("cannot make a temporary folder: {0}")]
    Folder(#[from] io::Error),
    /// The server does not start.
    #[error(transparent)]
    Start(#[from] StartError),
}

fn client_of(server: &Server) -> HyperspaceClient {
    let (near, far) = tokio::io::duplex(BUFFER);
    tokio::spawn(server.serve(far));
    HyperspaceClient::from_stream(near)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ServerEvent;
    use futures::StreamExt;

    #[tokio::test]
    async fn clients_come_and_go_and_nothing_is_left_behind() {
        let simulator = Simulator::with_socket().await.unwrap();
        let socket = simulator.server().socket().unwrap().to_owned();
        let mut events = Box::pin(simulator.server().events());
        let client = simulator.client();
        client.status().await.unwrap();
        simulator.corestore().create().await.unwrap();
        assert_eq!(simulator.server().client_count(), 2);
        client.close();
        let (mut opened, mut closed) = (Vec::new(), Vec::new());
        while closed.is_empty() {
            match events.next().await.unwrap() {
                ServerEvent::ClientOpen { id } => opened.push(id),
                ServerEvent::ClientClose { id, .. } => closed.push(id),
                event => panic!("nobody is dialled: {event:?}"),
            }
        }
        assert_eq!(opened.len(), 2);
        assert!(opened.contains(&closed[0]));
        assert!(simulator.closed().is_none() && socket.exists());
        simulator.stop().await;
        assert!(!socket.parent().unwrap().exists());
        assert!(matches!(events.next().await, Some(ServerEvent::ClientClose { .. })));
        assert_eq!(events.next().await, None);
    }
}
