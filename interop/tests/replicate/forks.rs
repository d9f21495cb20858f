//! Logs whose history is rewritten: while peers are connected, and while they are not.

use crate::pair::Pair;
use crate::side::Side;

/// Waits for the writer's head, fetches all of it, and compares.
async fn catch_up(pair: &Pair) {
    let state = pair.writer.state("log").await;
    pair.reader.wait_fork("log", state.fork).await;
    pair.reader.wait_length("log", state.length).await;
    pair.reader.download("log", 0, state.length, false).await;
    pair.compare("log").await;
}

async fn rewritten_while_connected(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 300, 40, 0).await;
    pair.connect().await;
    pair.reader.download("log", 0, 300, false).await;
    // Where it is cut, and how much follows: shorter, as long, longer, at borders of the tree, from the start.
    for (salt, (length, more)) in
        (1..).zip([(120, 10), (129, 1), (128, 200), (327, 1), (1, 500), (256, 245), (0, 30), (29, 2)])
    {
        pair.writer.truncate("log", length).await;
        pair.writer.generate("log", more, 40, salt).await;
        catch_up(pair).await;
        assert_eq!(pair.reader.state("log").await.fork, u64::from(salt));
    }
}

async fn rewritten_between_connections(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 200, 40, 0).await;
    for (salt, (length, more)) in (1..).zip([(150, 10), (100, 60), (3, 1), (0, 4), (2, 400)]) {
        pair.connect().await;
        catch_up(pair).await;
        pair.cut().await;
        // Twice, so that the reader misses a fork altogether.
        pair.writer.truncate("log", length + 1).await;
        pair.writer.generate("log", 3, 40, salt + 100).await;
        pair.writer.truncate("log", length).await;
        pair.writer.generate("log", more, 40, salt).await;
    }
    pair.connect().await;
    catch_up(pair).await;
    assert_eq!(pair.reader.state("log").await.fork, 10);
}

async fn rewritten_while_it_is_downloaded(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 2_000, 200, 0).await;
    pair.reader.follow("log").await;
    pair.connect().await;
    let rewriting = async {
        for (salt, (length, more)) in (1..).zip([(1_000, 1_000), (10, 1_500), (1_400, 50), (0, 2_000)]) {
            // Some of it is here, some is on its way.
            pair.reader.get("log", length / 2).await;
            pair.writer.truncate("log", length).await;
            pair.writer.generate("log", more, 200, salt).await;
            pair.reader.wait_fork("log", u64::from(salt)).await;
        }
        catch_up(pair).await;
    };
    if let Side::Rust(_) = pair.writer {
        return rewriting.await;
    }
    // hypercore 11.37.1 tears down its own connection when it reads a tree node for a peer that it has just cut away
    // ("Expected tree node from storage"). Whoever replicates with it has to dial again.
    tokio::select! {
        () = rewriting => {}
        () = pair.stay_connected() => {}
    }
}

async fn rewritten_under_a_sparse_copy(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 1_000, 40, 0).await;
    pair.connect().await;
    let some = [0, 3, 17, 400, 511, 512, 700, 999];
    pair.reader.get_many("log", &some).await;
    pair.cut().await;
    pair.writer.truncate("log", 600).await;
    pair.writer.generate("log", 500, 40, 9).await;
    pair.connect().await;
    pair.reader.wait_fork("log", 1).await;
    pair.reader.wait_length("log", 1_100).await;
    for index in some {
        let kept = pair.reader.has("log", index, index + 1).await;
        assert_eq!(kept, index < 600, "block {index}: what both histories share stays, the rest goes");
    }
    let writes = pair.writer.get_many("log", &[599, 600, 1_099]).await;
    assert_eq!(pair.reader.get_many("log", &[599, 600, 1_099]).await, writes);
    catch_up(pair).await;
    pair.cut().await;
    pair.compare("log").await;
}

matrix!(rewritten_while_connected, rewritten_between_connections, rewritten_under_a_sparse_copy,);

// Not npm alone: its reader leaves the peer for good after 32 refusals, which a cut under a full window brings.
pairings! {
    rust_writes_and_dials_cut: Rust, Npm, true;
    rust_writes_npm_dials_cut: RustInMemory, Npm, false;
    npm_writes_and_dials_cut: Npm, Rust, true;
    npm_writes_rust_dials_cut: Npm, RustInMemory, false;
    rust_alone_cut: Rust, RustInMemory, true;
    => [rewritten_while_it_is_downloaded]
}

async fn plain_rewritten(pair: &Pair) {
    pair.share("log").await;
    pair.writer.generate("log", 200, 40, 0).await;
    pair.connect().await;
    catch_up(pair).await;
    pair.writer.truncate("log", 120).await;
    pair.writer.generate("log", 10, 40, 1).await;
    catch_up(pair).await;
    pair.cut().await;
    pair.writer.truncate("log", 50).await;
    pair.writer.generate("log", 200, 40, 2).await;
    pair.connect().await;
    catch_up(pair).await;
    assert_eq!(pair.reader.state("log").await.fork, 2);
}

matrix_10!(plain_rewritten);
