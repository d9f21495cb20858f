//! Other processes of a benchmark.

use std::io::{BufRead, BufReader, Lines, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A process that says and is told lines of JSON. Dropping it kills it.
pub(super) struct Process {
    child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Process {
    /// This program again, as another half.
    pub(super) fn ours<const N: usize>(args: [&str; N]) -> Result<Self> {
        Self::start(Command::new(std::env::current_exe()?).arg("side").args(args))
    }

    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let stdin = child.stdin.take().context("stdin is piped")?;
        let lines = BufReader::new(child.stdout.take().context("stdout is piped")?).lines();
        Ok(Self { child, stdin, lines })
    }

    pub(super) fn next(&mut self) -> Result<Value> {
        let line = self.lines.next().context("the other process ended early")??;
        Ok(serde_json::from_str(&line)?)
    }

    /// The last line of a process that ends by itself, once it has: it has processes of its own to end before.
    pub(super) fn last(mut self) -> Result<Value> {
        let value = self.next()?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the other process failed ({status})");
        Ok(value)
    }

    /// A port in the next line.
    pub(super) fn number(&mut self, name: &str) -> Result<u16> {
        let line = self.next()?;
        Ok(line[name].as_u64().with_context(|| format!("no {name} in {line}"))?.try_into()?)
    }

    pub(super) fn tell(&mut self, message: &Value) -> Result<()> {
        Ok(writeln!(self.stdin, "{message}")?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
