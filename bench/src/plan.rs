//! What is measured, in which unit, and what is aimed at.

/// Which way a figure is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// What our figure should reach.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Aim {
    /// So many times better than JS.
    Times(f64),
    /// At most this, whatever JS does.
    AtMost(f64),
    /// Measured for the record.
    None,
}

/// One benchmark: a name, its JS half and what is aimed at. The Rust half is `sides::run` of the same name.
#[derive(Debug)]
pub(crate) struct Benchmark {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    pub(crate) aim: Aim,
    /// Script in `bench/js` and its arguments. `{cores}` and `{keys}` stand for the store of 10,000 cores.
    pub(crate) js: &'static [&'static str],
}

impl Benchmark {
    /// Whether it counts the calls of a client that may itself be the limit. Beside busy programs the daemon that does
    /// nothing, and never sleeps for that, is no measure.
    pub(crate) fn is_of_client(&self) -> bool {
        self.name.starts_with("rpc-")
            && !self.name.starts_with("rpc-memory-")
            && self.name != "rpc-get-crowded"
    }
}

use Aim::{AtMost, None, Times};
use Better::{Higher, Lower};

pub(crate) const BENCHMARKS: &[Benchmark] = &[
    Benchmark {
        name: "append-single",
        what: "single appends, 100 B",
        unit: "blocks/s",
        better: Higher,
        aim: Times(8.0),
        js: &["append-single.js"],
    },
    Benchmark {
        name: "append-batch",
        what: "appends of 1,000 blocks, 100 B",
        unit: "blocks/s",
        better: Higher,
        aim: Times(5.0),
        js: &["append-batch.js"],
    },
    Benchmark {
        name: "append-large",
        what: "appends, 64 KiB",
        unit: "MB/s",
        better: Higher,
        aim: None,
        js: &["append-large.js"],
    },
    Benchmark {
        name: "get-sequential",
        what: "gets in order, 100 B",
        unit: "blocks/s",
        better: Higher,
        aim: Times(12.0),
        js: &["get-sequential.js"],
    },
    Benchmark {
        name: "get-random",
        what: "gets at random, 100 B",
        unit: "blocks/s",
        better: Higher,
        aim: Times(12.0),
        js: &["get-random.js"],
    },
    Benchmark {
        name: "get-large",
        what: "gets in order, 64 KiB",
        unit: "MB/s",
        better: Higher,
        aim: None,
        js: &["get-large.js"],
    },
    Benchmark {
        name: "open-million",
        what: "opening a core of a million blocks",
        unit: "ms",
        better: Lower,
        aim: Times(20.0),
        js: &["open-million.js", "fresh"],
    },
    Benchmark {
        name: "open-million-settled",
        what: "the same, opened once before",
        unit: "ms",
        better: Lower,
        aim: None,
        js: &["open-million.js", "settled"],
    },
    Benchmark {
        name: "replicate-small",
        what: "TCP, 100,000 blocks of 100 B",
        unit: "blocks/s",
        better: Higher,
        aim: Times(15.0),
        js: &["replicate.js", "100000", "100", "blocks"],
    },
    Benchmark {
        name: "replicate-large",
        what: "TCP, 2,000 blocks of 64 KiB",
        unit: "MB/s",
        better: Higher,
        aim: Times(3.0),
        js: &["replicate.js", "2000", "65536", "megabytes"],
    },
    Benchmark {
        name: "live-latency",
        what: "append to the reader's hands, TCP",
        unit: "ms",
        better: Lower,
        aim: Times(4.0),
        js: &["live-latency.js"],
    },
    Benchmark {
        name: "many-cores",
        what: "1,000 cores of 10 blocks, one connection",
        unit: "s",
        better: Lower,
        aim: Times(10.0),
        js: &["many-cores.js", "1000", "10"],
    },
    Benchmark {
        name: "memory-idle",
        what: "resident, a store of 10,000 cores",
        unit: "MiB",
        better: Lower,
        aim: AtMost(25.0),
        js: &["memory.js", "{cores}", "idle", "{keys}"],
    },
    Benchmark {
        name: "memory-open",
        what: "the same with all of them open",
        unit: "MiB",
        better: Lower,
        aim: AtMost(45.0),
        js: &["memory.js", "{cores}", "open", "{keys}"],
    },
    Benchmark {
        name: "udx-loopback",
        what: "UDX, 256 MiB, both sides ours",
        unit: "MB/s",
        better: Higher,
        aim: Times(3.0),
        js: &["udx.js", "megabytes", "268435456", "0", "0"],
    },
    Benchmark {
        name: "udx-to-npm",
        what: "the same, ours to npm",
        unit: "MB/s",
        better: Higher,
        aim: None,
        js: &["udx.js", "megabytes", "268435456", "0", "0"],
    },
    Benchmark {
        name: "udx-from-npm",
        what: "the same, npm to ours",
        unit: "MB/s",
        better: Higher,
        aim: None,
        js: &["udx.js", "megabytes", "268435456", "0", "0"],
    },
    Benchmark {
        name: "udx-packets",
        what: "UDX packets of a CPU second, both sides",
        unit: "packets/s",
        better: Higher,
        aim: None,
        js: &["udx.js", "packets", "268435456", "0", "0"],
    },
    Benchmark {
        name: "udx-50ms",
        what: "UDX, 50 ms round trip",
        unit: "MB/s",
        better: Higher,
        aim: Times(1.5),
        js: &["udx.js", "megabytes", "134217728", "25", "0"],
    },
    Benchmark {
        name: "udx-50ms-loss-0.1",
        what: "the same, 0.1 % lost",
        unit: "MB/s",
        better: Higher,
        aim: Times(1.5),
        js: &["udx.js", "megabytes", "134217728", "25", "1000"],
    },
    Benchmark {
        name: "udx-50ms-loss-1",
        what: "the same, 1 % lost",
        unit: "MB/s",
        better: Higher,
        aim: Times(1.5),
        js: &["udx.js", "megabytes", "134217728", "25", "10000"],
    },
    Benchmark {
        name: "join-first-block",
        what: "joining a topic to its first block",
        unit: "ms",
        better: Lower,
        aim: None,
        js: &["swarm.js", "first-block"],
    },
    Benchmark {
        name: "announce-1000",
        what: "announcing 1,000 topics",
        unit: "s",
        better: Lower,
        aim: Times(10.0),
        js: &["swarm.js", "announce", "1000"],
    },
    Benchmark {
        name: "memory-1000-topics",
        what: "resident, idle with 1,000 topics",
        unit: "MiB",
        better: Lower,
        aim: Times(5.0),
        js: &["swarm.js", "memory", "1000"],
    },
    Benchmark {
        name: "swarm-small",
        what: "swarm, 100,000 blocks of 100 B",
        unit: "blocks/s",
        better: Higher,
        aim: Times(12.0),
        js: &["swarm.js", "replicate", "100000", "100", "blocks"],
    },
    Benchmark {
        name: "swarm-small-to-npm",
        what: "the same, ours to npm",
        unit: "blocks/s",
        better: Higher,
        aim: None,
        js: &["swarm.js", "replicate", "100000", "100", "blocks"],
    },
    Benchmark {
        name: "swarm-small-from-npm",
        what: "the same, npm to ours",
        unit: "blocks/s",
        better: Higher,
        aim: None,
        js: &["swarm.js", "replicate", "100000", "100", "blocks"],
    },
    Benchmark {
        name: "swarm-large",
        what: "swarm, 2,000 blocks of 64 KiB",
        unit: "MB/s",
        better: Higher,
        aim: Times(4.0),
        js: &["swarm.js", "replicate", "2000", "65536", "megabytes"],
    },
    Benchmark {
        name: "swarm-large-to-npm",
        what: "the same, ours to npm",
        unit: "MB/s",
        better: Higher,
        aim: None,
        js: &["swarm.js", "replicate", "2000", "65536", "megabytes"],
    },
    Benchmark {
        name: "swarm-large-from-npm",
        what: "the same, npm to ours",
        unit: "MB/s",
        better: Higher,
        aim: None,
        js: &["swarm.js", "replicate", "2000", "65536", "megabytes"],
    },
    Benchmark {
        name: "rpc-append-awaited",
        what: "Node client: awaited appends, 100 B",
        unit: "calls/s",
        better: Higher,
        aim: Times(2.0),
        js: &["rpc.js", "append-awaited"],
    },
    Benchmark {
        name: "rpc-append-pipelined",
        what: "Node client: 1,000 appends at a time, 100 B",
        unit: "calls/s",
        better: Higher,
        aim: Times(2.0),
        js: &["rpc.js", "append-pipelined"],
    },
    Benchmark {
        name: "rpc-get-awaited",
        what: "Node client: awaited gets at random, 100 B",
        unit: "calls/s",
        better: Higher,
        aim: Times(2.0),
        js: &["rpc.js", "get-awaited"],
    },
    Benchmark {
        name: "rpc-get-crowded",
        what: "Node client: the same, all cores taken by others",
        unit: "calls/s",
        better: Higher,
        aim: Times(2.0),
        js: &["rpc.js", "get-crowded"],
    },
    Benchmark {
        name: "rpc-get-pipelined",
        what: "Node client: 1,000 gets at a time, 100 B",
        unit: "calls/s",
        better: Higher,
        aim: Times(2.0),
        js: &["rpc.js", "get-pipelined"],
    },
    Benchmark {
        name: "rpc-append-large",
        what: "Node client: 16 appends at a time, 64 KiB",
        unit: "MB/s",
        better: Higher,
        aim: Times(2.0),
        js: &["rpc.js", "append-large"],
    },
    Benchmark {
        name: "rpc-get-large",
        what: "Node client: 16 gets at a time, 64 KiB",
        unit: "MB/s",
        better: Higher,
        aim: Times(2.0),
        js: &["rpc.js", "get-large"],
    },
    Benchmark {
        name: "rpc-create-cores",
        what: "Node client: 500 cores, one after the other",
        unit: "cores/s",
        better: Higher,
        aim: Times(2.0),
        js: &["rpc.js", "create-cores"],
    },
    Benchmark {
        name: "rpc-memory-idle",
        what: "resident, one client",
        unit: "MiB",
        better: Lower,
        aim: Times(10.0),
        js: &["rpc.js", "memory-idle"],
    },
    Benchmark {
        name: "rpc-memory-own",
        what: "of that, without pages of its program's files",
        unit: "MiB",
        better: Lower,
        aim: Times(10.0),
        js: &["rpc.js", "memory-own"],
    },
    Benchmark {
        name: "rpc-memory-cores",
        what: "resident, after 500 cores created",
        unit: "MiB",
        better: Lower,
        aim: Times(10.0),
        js: &["rpc.js", "memory-cores"],
    },
    Benchmark {
        name: "rpc-rust-append-awaited",
        what: "Rust client: awaited appends, 100 B",
        unit: "calls/s",
        better: Higher,
        aim: Times(10.0),
        js: &["rpc.js", "append-awaited"],
    },
    Benchmark {
        name: "rpc-rust-append-pipelined",
        what: "Rust client: 1,000 appends at a time, 100 B",
        unit: "calls/s",
        better: Higher,
        aim: Times(10.0),
        js: &["rpc.js", "append-pipelined"],
    },
    Benchmark {
        name: "rpc-rust-get-awaited",
        what: "Rust client: awaited gets at random, 100 B",
        unit: "calls/s",
        better: Higher,
        aim: Times(10.0),
        js: &["rpc.js", "get-awaited"],
    },
    Benchmark {
        name: "rpc-rust-get-pipelined",
        what: "Rust client: 1,000 gets at a time, 100 B",
        unit: "calls/s",
        better: Higher,
        aim: Times(10.0),
        js: &["rpc.js", "get-pipelined"],
    },
    Benchmark {
        name: "rpc-rust-append-large",
        what: "Rust client: 16 appends at a time, 64 KiB",
        unit: "MB/s",
        better: Higher,
        aim: Times(10.0),
        js: &["rpc.js", "append-large"],
    },
    Benchmark {
        name: "rpc-rust-get-large",
        what: "Rust client: 16 gets at a time, 64 KiB",
        unit: "MB/s",
        better: Higher,
        aim: Times(10.0),
        js: &["rpc.js", "get-large"],
    },
    Benchmark {
        name: "rpc-rust-create-cores",
        what: "Rust client: 500 cores, one after the other",
        unit: "cores/s",
        better: Higher,
        aim: Times(10.0),
        js: &["rpc.js", "create-cores"],
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_js_half_exists_and_names_are_unique() {
        for (at, benchmark) in BENCHMARKS.iter().enumerate() {
            let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("js").join(benchmark.js[0]);
            assert!(script.exists(), "{}", script.display());
            assert!(BENCHMARKS[..at].iter().all(|other| other.name != benchmark.name));
        }
    }
}
