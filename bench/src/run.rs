//! Running one half of a benchmark: in a process of its own, unpinned and pinned to one core, medians of several runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::plan::{Benchmark, Better};

/// Where a figure was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cores {
    All,
    One,
}

/// The better of the two medians.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure {
    pub(crate) value: f64,
    pub(crate) cores: Cores,
    pub(crate) besides: Besides,
}

/// What else the run with the median tells, where it does.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Besides {
    /// Resident memory of the server afterwards, in MiB.
    pub(crate) memory: Option<f64>,
    /// The share of a core that the client took: near 1 it is what limits the figure.
    pub(crate) busy: Option<f64>,
}

/// The folder for everything that a benchmark writes, and the fixtures that were made so far.
#[derive(Debug)]
pub(crate) struct Bench {
    scratch: tempfile::TempDir,
    js: PathBuf,
    /// This very program, which JS halves start as the relay between their processes.
    program: PathBuf,
    runs: usize,
}

/// A store of many cores that both halves read, and the file with their keys.
#[derive(Debug)]
pub(crate) struct ManyCores {
    pub(crate) folder: PathBuf,
    pub(crate) keys: PathBuf,
}

impl Bench {
    pub(crate) fn new(runs: usize) -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("hyperspace-bench-").tempdir()?;
        let js = Path::new(env!("CARGO_MANIFEST_DIR")).join("js");
        let program = std::env::current_exe().context("finding this program")?;
        Ok(Self { scratch, js, program, runs })
    }

    /// The JS half at its best.
    pub(crate) fn js(&self, benchmark: &Benchmark) -> Result<Figure> {
        let (script, args) = benchmark.js.split_first().context("a benchmark has a script")?;
        let mut line = vec!["node".to_owned(), self.js.join(script).display().to_string()];
        for &arg in args {
            line.push(match arg {
                "{cores}" => self.many_cores()?.folder.display().to_string(),
                "{keys}" => self.many_cores()?.keys.display().to_string(),
                other => other.to_owned(),
            });
        }
        self.best(benchmark, &line)
    }

    /// Our half at its best: this very program again, as `bench side NAME`.
    pub(crate) fn ours(&self, benchmark: &Benchmark) -> Result<Figure> {
        let mut line = vec![self.program.display().to_string(), "side".to_owned(), benchmark.name.to_owned()];
        if benchmark.js.contains(&"{cores}") {
            let store = self.many_cores()?;
            line.push(store.folder.display().to_string());
            line.push(store.keys.display().to_string());
        }
        self.best(benchmark, &line)
    }

    /// What the client of our half reaches with a daemon that does nothing but answer.
    pub(crate) fn limit(&self, benchmark: &Benchmark) -> Result<Figure> {
        let program = self.program.display().to_string();
        self.best(benchmark, &[program, "side".to_owned(), benchmark.name.to_owned(), "nothing".to_owned()])
    }

    fn best(&self, benchmark: &Benchmark, line: &[String]) -> Result<Figure> {
        let all = self.median(line, Cores::All)?;
        let Some(pinned) = pinned(line) else { return Ok(all) };
        let one = self.median(&pinned, Cores::One)?;
        let one_is_better = match benchmark.better {
            Better::Higher => one.value > all.value,
            Better::Lower => one.value < all.value,
        };
        Ok(if one_is_better { one } else { all })
    }

    fn median(&self, line: &[String], cores: Cores) -> Result<Figure> {
        let mut values = Vec::with_capacity(self.runs);
        for _ in 0..self.runs {
            values.push(self.once(line)?);
        }
        values.sort_by(|(one, _), (two, _)| one.total_cmp(two));
        let (value, besides) = values.get(values.len() / 2).copied().context("at least one run")?;
        Ok(Figure { value, cores, besides })
    }

    fn once(&self, line: &[String]) -> Result<(f64, Besides)> {
        let (program, args) = line.split_first().context("a command line has a program")?;
        // Gone before the next run: all of them together write 15 GB and more.
        let folder = tempfile::Builder::new().prefix("run-").tempdir_in(self.scratch.path())?;
        let output = Command::new(program)
            .args(args)
            .env("BENCH_DIR", folder.path())
            .env("BENCH_PROGRAM", &self.program)
            .stderr(Stdio::inherit())
            .output()
            .with_context(|| format!("running {program}"))?;
        if !output.status.success() {
            bail!("`{}` failed ({})", line.join(" "), output.status);
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let answer = text.lines().last().unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(answer)
            .with_context(|| format!("`{}` answered {answer:?}", line.join(" ")))?;
        let besides = Besides { memory: value["memory"].as_f64(), busy: value["busy"].as_f64() };
        let value = value["value"].as_f64();
        Ok((value.with_context(|| format!("`{}` answered {answer}", line.join(" ")))?, besides))
    }

    /// Made at the first need.
    fn many_cores(&self) -> Result<ManyCores> {
        let store = ManyCores {
            folder: self.scratch.path().join("many-cores"),
            keys: self.scratch.path().join("many-cores.keys"),
        };
        if !store.keys.exists() {
            let output = Command::new("node")
                .arg(self.js.join("make-cores.js"))
                .arg(&store.folder)
                .arg("10000")
                .stderr(Stdio::inherit())
                .output()
                .context("running node")?;
            if !output.status.success() {
                bail!("cannot make the store of 10,000 cores");
            }
            fs::write(&store.keys, output.stdout)?;
        }
        Ok(store)
    }
}

/// The command line under `taskset`, on the last core that we may use; `None` where that makes no difference.
fn pinned(line: &[String]) -> Option<Vec<String>> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?.trim();
    let last = allowed.rsplit([',', '-']).next()?;
    if last == allowed {
        return None;
    }
    Command::new("taskset").arg("--version").output().ok().filter(|output| output.status.success())?;
    let mut pinned = vec!["taskset".to_owned(), "-c".to_owned(), last.to_owned()];
    pinned.extend_from_slice(line);
    Some(pinned)
}
