//! Our halves of the benchmarks: each does what the script of `bench/js` does, with the same sizes and counts.

mod daemon;
mod local;
mod memory;
mod nothing;
mod peers;
mod process;
mod rpc;
mod scratch;
mod swarm;
mod udx;

use anyhow::{Result, bail};

/// A block of the benchmarks with small blocks.
const SMALL: usize = 100;
/// A block of the benchmarks with large blocks.
const LARGE: usize = 64 * 1024;

/// Runs our half once and prints its value.
pub(crate) fn run(name: &str, args: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let value = match name {
        "append-single" => local::append_single()?,
        "append-batch" => local::append_many(20_000, 100_000, SMALL, 1000)?.blocks,
        "append-large" => local::append_many(160, 3200, LARGE, 16)?.megabytes,
        "get-sequential" => local::get(50_000, SMALL, 50_000, local::in_order)?.blocks,
        "get-random" => local::get(50_000, SMALL, 50_000, local::at_random)?.blocks,
        "get-large" => local::get(3200, LARGE, 3200, local::in_order)?.megabytes,
        "open-million" => local::open_million(false)?,
        "open-million-settled" => local::open_million(true)?,
        "make-million" => return local::make_million(args),
        "replicate-small" => {
            runtime.block_on(peers::replicate("replicate-small-writer", peers::SMALL_BLOCKS))?.blocks
        }
        "replicate-small-writer" => return runtime.block_on(peers::replicate_writer(peers::SMALL_BLOCKS)),
        "replicate-large" => {
            runtime.block_on(peers::replicate("replicate-large-writer", peers::LARGE_BLOCKS))?.megabytes
        }
        "replicate-large-writer" => return runtime.block_on(peers::replicate_writer(peers::LARGE_BLOCKS)),
        "many-cores" => runtime.block_on(peers::many_cores())?,
        "many-cores-writer" => return runtime.block_on(peers::many_cores_writer()),
        "live-latency" => runtime.block_on(peers::live())?,
        "live-latency-writer" => return runtime.block_on(peers::live_writer()),
        "udx-loopback" => runtime.block_on(udx::send(udx::LOOPBACK, udx::Sink::Ours))?.megabytes,
        "udx-to-npm" => runtime.block_on(udx::send(udx::LOOPBACK, udx::Sink::Npm))?.megabytes,
        "udx-from-npm" => udx::receive_from_npm(udx::LOOPBACK)?,
        "udx-packets" => runtime.block_on(udx::send(udx::LOOPBACK, udx::Sink::Ours))?.packets_per_cpu_second,
        "udx-50ms" => runtime.block_on(udx::send(udx::distant(0), udx::Sink::Ours))?.megabytes,
        "udx-50ms-loss-0.1" => runtime.block_on(udx::send(udx::distant(1000), udx::Sink::Ours))?.megabytes,
        "udx-50ms-loss-1" => runtime.block_on(udx::send(udx::distant(10_000), udx::Sink::Ours))?.megabytes,
        "udx-sink" => return runtime.block_on(udx::sink()),
        "udx-relay" => return udx::relay(args),
        "join-first-block" => runtime.block_on(swarm::first_block())?,
        "announce-1000" => swarm::announce()?.0,
        "memory-1000-topics" => swarm::announce()?.1,
        "swarm-small" => runtime.block_on(swarm::log(swarm::MANY, swarm::Writer::Ours))?.blocks,
        "swarm-small-to-npm" => swarm::log_to_npm(swarm::MANY, "blocks")?,
        "swarm-small-from-npm" => runtime.block_on(swarm::log(swarm::MANY, swarm::Writer::Npm))?.blocks,
        "swarm-large" => runtime.block_on(swarm::log(swarm::LARGE_ONES, swarm::Writer::Ours))?.megabytes,
        "swarm-large-to-npm" => swarm::log_to_npm(swarm::LARGE_ONES, "megabytes")?,
        "swarm-large-from-npm" => {
            runtime.block_on(swarm::log(swarm::LARGE_ONES, swarm::Writer::Npm))?.megabytes
        }
        "swarm-nodes" => return runtime.block_on(bench::run_nodes()),
        "swarm-writer" => return runtime.block_on(swarm::writer(args)),
        "memory-idle" => runtime.block_on(memory::resident(args, false))?,
        "memory-open" => runtime.block_on(memory::resident(args, true))?,
        "nothing" => return nothing::serve(args),
        _ if name.starts_with("rpc-rust-") => return rpc::rust(name, args),
        _ if name.starts_with("rpc-") => return rpc::node(name, args),
        _ => bail!("no such benchmark: {name}"),
    };
    println!("{}", serde_json::json!({ "value": value }));
    Ok(())
}
