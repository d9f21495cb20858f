//! Two sides, and every way to pair them.

use std::path::Path;

use hypercore::Key;
use interop::Node;
use tempfile::TempDir;

use crate::rust_side::RustSide;
use crate::side::{Make, Side};

/// Which implementation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Who {
    /// Ours, in a folder.
    Rust,
    /// Ours, in memory.
    RustInMemory,
    /// Corestore 7 with hypercore 11.
    Npm,
    /// Corestore 6 with hypercore 10.
    Npm10,
}

/// A writer and a reader; `reader` knows nothing but keys.
pub(crate) struct Pair {
    pub(crate) writer: Side,
    pub(crate) reader: Side,
    writer_dials: bool,
    port: u16,
    plain: bool,
    _folders: TempDir,
}

/// Starts a side with its storage under `folder`.
pub(crate) async fn side(who: Who, folder: &Path) -> Option<Side> {
    let node = match who {
        Who::Rust => return Some(Side::Rust(Box::new(RustSide::new(Some(folder))))),
        Who::RustInMemory => return Some(Side::Rust(Box::new(RustSide::new(None)))),
        Who::Npm | Who::Npm10 => Node::find().await?,
    };
    Some(Side::Npm(if who == Who::Npm { node.peer(folder).await } else { node.peer10(folder).await }))
}

impl Pair {
    /// Starts both sides; `None` without Node.
    pub(crate) async fn new(writer: Who, reader: Who, writer_dials: bool) -> Option<Self> {
        let folders = tempfile::tempdir().unwrap();
        let plain = writer == Who::Npm10 || reader == Who::Npm10;
        let writer = side(writer, &folders.path().join("writer")).await?;
        let reader = side(reader, &folders.path().join("reader")).await?;
        let port = if writer_dials { reader.listen().await } else { writer.listen().await };
        Some(Self { writer, reader, writer_dials, port, plain, _folders: folders })
    }

    /// How a core is made that both sides can read.
    pub(crate) fn make(&self) -> Make {
        let is_rust = matches!(self.writer, Side::Rust(_));
        if self.plain && is_rust { Make::Compat } else { Make::Named }
    }

    /// Makes a core at the writer.
    pub(crate) async fn create(&self, label: &str) -> Key {
        self.writer.create(label, &self.make()).await
    }

    /// Makes a core at the writer and opens it at the reader.
    pub(crate) async fn share(&self, label: &str) -> Key {
        let key = self.create(label).await;
        self.reader.open(label, key).await;
        key
    }

    /// The side that dials, and the other.
    pub(crate) fn dialer(&self) -> (&Side, &Side) {
        if self.writer_dials { (&self.writer, &self.reader) } else { (&self.reader, &self.writer) }
    }

    /// Whether the writer is the one that dials.
    pub(crate) fn writer_dials(&self) -> bool {
        self.writer_dials
    }

    /// The port of the side that does not dial.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// Connects; returns when both sides have seen the handshake.
    pub(crate) async fn connect(&self) {
        let (dialer, other) = self.dialer();
        tokio::join!(dialer.connect(self.port), other.connected());
    }

    /// Ends the connection; returns when both sides have seen it.
    pub(crate) async fn cut(&self) {
        self.dialer().0.cut().await;
        tokio::join!(self.writer.disconnected(), self.reader.disconnected());
    }

    /// Connects anew whenever both sides have lost the connection, for ever.
    pub(crate) async fn stay_connected(&self) {
        loop {
            tokio::join!(self.writer.disconnected(), self.reader.disconnected());
            self.connect().await;
        }
    }

    /// The reader has what the writer has: head, signature, manifest, every block, tree hashes at many lengths. All
    /// of it must be there already.
    pub(crate) async fn compare(&self, label: &str) {
        same(&self.writer, &self.reader, label).await;
    }

    /// Ends both sides in order.
    pub(crate) async fn close(self) {
        tokio::join!(self.writer.close(), self.reader.close());
    }
}

/// `copy` has every byte of what `original` has.
pub(crate) async fn same(original: &Side, copy: &Side, label: &str) {
    let (theirs, ours) = tokio::join!(original.state(label), copy.state(label));
    assert_eq!(theirs, ours, "{label}");
    let length = theirs.length;
    assert!(copy.has(label, 0, length).await, "{label}: all blocks are here");
    assert_eq!(copy.contiguous_length(label).await, length, "{label}");
    let (theirs, ours) = tokio::join!(original.digest(label, 0, length), copy.digest(label, 0, length));
    assert_eq!(theirs, ours, "{label}: the blocks");
    let step = usize::try_from(length / 100 + 1).unwrap();
    let lengths: Vec<u64> = (1..=length).step_by(step).collect();
    let (theirs, ours) =
        tokio::join!(original.tree_hashes(label, &lengths), copy.tree_hashes(label, &lengths));
    assert_eq!(theirs, ours, "{label}: tree hashes");
}

/// Runs a scenario with a pair, and closes it.
pub(crate) async fn run(writer: Who, reader: Who, writer_dials: bool, scenario: impl AsyncFnOnce(&Pair)) {
    let Some(pair) = Pair::new(writer, reader, writer_dials).await else { return };
    scenario(&pair).await;
    pair.close().await;
}

/// Tests of scenarios with every pairing.
macro_rules! pairings {
    ($($(#[$attribute:meta])* $pairing:ident: $writer:ident, $reader:ident, $dials:literal;)* => $scenarios:tt) => {
        $(pairings!(@one [$(#[$attribute])*] $pairing $writer $reader $dials $scenarios);)*
    };
    (@one $attributes:tt $pairing:ident $writer:ident $reader:ident $dials:literal [$($scenario:ident),* $(,)?]) => {
        mod $pairing {
            $(pairings!(@test $attributes $scenario $writer $reader $dials);)*
        }
    };
    (@test [$(#[$attribute:meta])*] $scenario:ident $writer:ident $reader:ident $dials:literal) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        $(#[$attribute])*
        async fn $scenario() {
            use $crate::pair::{Who, run};
            run(Who::$writer, Who::$reader, $dials, async |pair| super::$scenario(pair).await).await;
        }
    };
}

/// Runs each scenario, an `async fn(&Pair)`, with Rust and npm as writer and reader, and either as the dialer. The
/// pairing of npm with itself is ignored: it proves the scenario when one is written.
macro_rules! matrix {
    ($($scenario:ident),* $(,)?) => {
        pairings! {
            rust_writes_and_dials: Rust, Npm, true;
            rust_writes_npm_dials: RustInMemory, Npm, false;
            npm_writes_and_dials: Npm, Rust, true;
            npm_writes_rust_dials: Npm, RustInMemory, false;
            rust_alone: Rust, RustInMemory, true;
            #[ignore = "proves the scenario, not us"]
            npm_alone: Npm, Npm, false;
            => [$($scenario),*]
        }
    };
}

/// The same with hypercore 10.
macro_rules! matrix_10 {
    ($($scenario:ident),* $(,)?) => {
        pairings! {
            rust_writes_npm_10_dials: Rust, Npm10, false;
            rust_writes_and_dials_npm_10: RustInMemory, Npm10, true;
            npm_10_writes_and_dials: Npm10, Rust, true;
            npm_10_writes_rust_dials: Npm10, RustInMemory, false;
            => [$($scenario),*]
        }
    };
}
