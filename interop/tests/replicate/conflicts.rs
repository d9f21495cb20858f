//! One key, two histories: a reader that meets both notices.

use hypercore::{KeyPair, Manifest};
use interop::within;

use crate::pair::{Who, side};
use crate::rust_side::until;
use crate::side::{Make, Side};

async fn noticed(reader: &Side, label: &str) {
    match reader {
        Side::Rust(side) => {
            within("the conflict", until(&side.core(label), |core| core.info().frozen)).await;
            assert!(side.core(label).lock().core().conflict().unwrap().is_some(), "the evidence is kept");
        }
        Side::Npm(peer) => {
            peer.event("conflict").await;
        }
    }
}

async fn two_histories(writer: Who, reader: Who) {
    let folders = tempfile::tempdir().unwrap();
    let Some(first) = side(writer, &folders.path().join("first")).await else { return };
    let Some(second) = side(writer, &folders.path().join("second")).await else { return };
    let Some(reader) = side(reader, &folders.path().join("reader")).await else { return };
    let manifest = Manifest::default_signer(KeyPair::from_seed(&[9; 32]).public());
    let make = Make::Manifest(manifest, vec![[9; 32]]);
    let key = first.create("log", &make).await;
    assert_eq!(second.create("log", &make).await, key);
    first.generate("log", 10, 50, 1).await;
    second.generate("log", 10, 50, 2).await;

    reader.open("log", key).await;
    reader.connect(first.listen().await).await;
    reader.get("log", 3).await;
    reader.cut().await;
    reader.disconnected().await;

    let other = second.create("other", &Make::Named).await;
    second.generate("other", 10, 50, 2).await;
    reader.open("other", other).await;
    reader.connect(second.listen().await).await;
    tokio::select! {
        block = reader.get("log", 5) => panic!("a block of the other history was taken over: {block}"),
        () = noticed(&reader, "log") => {}
    }
    // What has nothing to do with it goes on.
    reader.download("other", 0, 10, false).await;
    crate::pair::same(&second, &reader, "other").await;
    tokio::join!(first.close(), second.close(), reader.close());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rust_notices_two_histories_of_npm() {
    two_histories(Who::Npm, Who::Rust).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn npm_notices_two_histories_of_rust() {
    two_histories(Who::RustInMemory, Who::Npm).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "proves the scenario, not us"]
async fn npm_alone() {
    two_histories(Who::Npm, Who::Npm).await;
}
