//! One npm peer as a child process that speaks JSON lines.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;

/// How long a peer may take for one answer or event: only to end a hanging test, never to measure.
pub const DEADLINE: Duration = Duration::from_secs(180);

/// [`DEADLINE`], or as many seconds as `INTEROP_DEADLINE` says: for hunting what hangs.
fn deadline() -> Duration {
    let given = std::env::var("INTEROP_DEADLINE").ok().and_then(|seconds| seconds.parse().ok());
    given.map_or(DEADLINE, Duration::from_secs)
}

/// Awaits `future` for [`DEADLINE`] at most.
///
/// # Panics
///
/// When the deadline passes; `what` says what was awaited.
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    let deadline = deadline();
    match tokio::time::timeout(deadline, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what}: nothing came in {} s", deadline.as_secs()),
    }
}

/// The error that a peer answered.
#[derive(Debug, Clone)]
pub struct PeerError {
    /// The `message` of the JS error.
    pub message: String,
    /// The `code` of the JS error, where it has one.
    pub code: Option<String>,
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.code {
            Some(code) => write!(f, "{code}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for PeerError {}

/// A running npm peer. Dropping it kills the process.
#[derive(Debug)]
pub struct Peer {
    script: String,
    child: Child,
    stdin: tokio::sync::Mutex<ChildStdin>,
    next_id: AtomicU64,
    shared: Arc<Shared>,
}

/// What the task that reads the peer's stdout fills.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<u64, oneshot::Sender<Result<Value, PeerError>>>,
    events: VecDeque<Value>,
    stderr: VecDeque<String>,
    ended: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stderr(&self) -> String {
        self.state().stderr.iter().map(|line| format!("\n  | {line}")).collect()
    }
}

impl Peer {
    pub(crate) async fn spawn(command: std::process::Command, script: &str) -> Self {
        let mut child = Command::from(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|err| panic!("cannot run node {script}: {err}"));
        let stdin = child.stdin.take().expect("stdin is piped");
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");

        let shared = Arc::new(Shared::default());
        let complaints = tokio::spawn(read_stderr(stderr, Arc::clone(&shared)));
        tokio::spawn(read_stdout(stdout, Arc::clone(&shared), complaints));

        let peer = Self {
            script: script.to_owned(),
            child,
            stdin: tokio::sync::Mutex::new(stdin),
            next_id: AtomicU64::new(1),
            shared,
        };
        peer.event("ready").await;
        peer
    }

    /// Sends a command and awaits its answer.
    ///
    /// # Panics
    ///
    /// When the peer dies or stays silent past [`DEADLINE`].
    pub async fn call(&self, name: &str, args: Value) -> Result<Value, PeerError> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut message = args;
        message["id"] = json!(id);
        message["do"] = json!(name);

        let (answer, answered) = oneshot::channel();
        self.shared.state().waiting.insert(id, answer);
        let line = format!("{message}\n");
        if let Err(err) = self.stdin.lock().await.write_all(line.as_bytes()).await {
            panic!("{}: cannot send {name}: {err}{}", self.script, self.shared.stderr());
        }
        match within(&format!("{}: {name}", self.script), answered).await {
            Ok(answer) => answer,
            Err(_) => panic!("{}: ended before it answered {name}{}", self.script, self.shared.stderr()),
        }
    }

    /// [`Peer::call`] for commands that must succeed.
    ///
    /// # Panics
    ///
    /// When the peer answers with an error.
    pub async fn ask(&self, name: &str, args: Value) -> Value {
        match self.call(name, args.clone()).await {
            Ok(value) => value,
            Err(err) => panic!("{}: {name} {args}: {err}", self.script),
        }
    }

    /// The next event of this name, among those not yet taken.
    pub async fn event(&self, name: &str) -> Value {
        self.event_where(name, |_| true).await
    }

    /// The next event of this name for which `wanted` holds; others stay.
    ///
    /// # Panics
    ///
    /// When the peer dies or the event does not come within [`DEADLINE`].
    pub async fn event_where(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let waiting = async {
            loop {
                let arrived = self.shared.arrived.notified();
                tokio::pin!(arrived);
                // Registered before the look, so that what arrives in between wakes us.
                arrived.as_mut().enable();
                {
                    let mut state = self.shared.state();
                    let at = state.events.iter().position(|event| event["event"] == name && wanted(event));
                    if let Some(event) = at.and_then(|at| state.events.remove(at)) {
                        return Some(event);
                    }
                    if state.ended {
                        return None;
                    }
                }
                arrived.await;
            }
        };
        match within(&format!("{}: event {name}", self.script), waiting).await {
            Some(event) => event,
            None => panic!("{}: ended before the event {name}{}", self.script, self.shared.stderr()),
        }
    }

    /// Events of this name that have come and were not taken.
    pub fn events(&self, name: &str) -> Vec<Value> {
        self.shared.state().events.iter().filter(|event| event["event"] == name).cloned().collect()
    }

    /// Asks the peer to close what it holds and awaits the end of the process.
    pub async fn close(mut self) {
        self.ask("close", json!({})).await;
        let ended = within(&format!("{}: end", self.script), self.child.wait()).await;
        let status = ended.expect("a child can be waited for");
        assert!(status.success(), "{}: {status}{}", self.script, self.shared.stderr());
    }

    /// `kill -9`, and awaits that it is gone.
    pub async fn kill(mut self) {
        self.child.kill().await.expect("a child can be killed");
    }

    /// The process id, for measuring.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }
}

async fn read_stdout(stdout: impl AsyncRead + Unpin, shared: Arc<Shared>, complaints: JoinHandle<()>) {
    let mut lines = BufReader::new(stdout).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let Ok(mut message) = serde_json::from_str::<Value>(&line) else {
            // Something that a package printed; kept with stderr for the failure message.
            remember(&mut shared.state(), line);
            continue;
        };
        let mut state = shared.state();
        let waiting = message["id"].as_u64().and_then(|id| state.waiting.remove(&id));
        if let Some(waiting) = waiting {
            let _ = waiting.send(match message.get("error") {
                None => Ok(message["ok"].take()),
                Some(error) => Err(PeerError {
                    message: error["message"].as_str().unwrap_or_default().to_owned(),
                    code: error["code"].as_str().map(str::to_owned),
                }),
            });
        } else {
            state.events.push_back(message);
            drop(state);
            shared.arrived.notify_waiters();
        }
    }
    // Who is waiting learns of the end together with what the peer had to say about it.
    let _ = complaints.await;
    let mut state = shared.state();
    state.ended = true;
    state.waiting.clear();
    drop(state);
    shared.arrived.notify_waiters();
}

async fn read_stderr(stderr: impl AsyncRead + Unpin, shared: Arc<Shared>) {
    let mut lines = BufReader::new(stderr).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        remember(&mut shared.state(), line);
    }
}

fn remember(state: &mut State, line: String) {
    const KEPT: usize = 40;
    if state.stderr.len() == KEPT {
        state.stderr.pop_front();
    }
    state.stderr.push_back(line);
}
