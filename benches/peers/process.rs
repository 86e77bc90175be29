//! Processes under test: started in their own group, measured with all their descendants, ended for certain.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A process and whatever it starts. It is killed when this is dropped.
pub struct Tree {
    child: Child,
}

impl Tree {
    /// Starts it with its output in `log`.
    pub fn start(command: &mut Command, log: &Path) -> io::Result<Self> {
        let out = fs::File::options().create(true).append(true).open(log)?;
        command
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out);
        let child = command.process_group(0).spawn();
        let child =
            child.map_err(|error| io::Error::new(error.kind(), format!("{command:?}: {error}")))?;
        Ok(Self { child })
    }

    /// Whether it has ended, and how.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// SIGKILL to the whole group, and waits for its leader.
    pub fn kill(&mut self) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill")
            .args(["-s", "KILL", "--", &group])
            .stderr(Stdio::null())
            .status();
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn pids(&self) -> Vec<u32> {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let pid = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            if let Some((pid, parent)) = pid.and_then(|pid| Some((pid, stat(pid, 3)?))) {
                children
                    .entry(u32::try_from(parent).unwrap_or(0))
                    .or_default()
                    .push(pid);
            }
        }
        let mut all = vec![self.child.id()];
        let mut at = 0;
        while at < all.len() {
            all.extend(children.remove(&all[at]).unwrap_or_default());
            at += 1;
        }
        all
    }

    /// User and system time so far, in microseconds, to the kernel's tick (10 ms as a rule).
    pub fn cpu_micros(&self) -> f64 {
        let ticks: u64 = self
            .pids()
            .iter()
            .filter_map(|pid| Some(stat(*pid, 13)? + stat(*pid, 14)?))
            .sum();
        ticks as f64 * 1e6 / ticks_per_second()
    }

    /// Resident memory now, in MB; pages that several processes share count in each.
    pub fn rss_mb(&self) -> f64 {
        self.sum("VmRSS:") / 1000.0
    }

    /// The most it ever was.
    pub fn peak_mb(&self) -> f64 {
        self.sum("VmHWM:") / 1000.0
    }

    pub fn threads(&self) -> f64 {
        self.sum("Threads:")
    }

    pub fn descriptors(&self) -> f64 {
        let open = |pid: u32| fs::read_dir(format!("/proc/{pid}/fd")).map_or(0, Iterator::count);
        self.pids().into_iter().map(open).sum::<usize>() as f64
    }

    /// Kilobytes are the kernel's, of 1,024 bytes.
    fn sum(&self, key: &str) -> f64 {
        let value = |pid: u32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
            let line = status.lines().find_map(|line| line.strip_prefix(key))?;
            let number: f64 = line.split_whitespace().next()?.parse().ok()?;
            Some(if line.ends_with("kB") {
                number * 1.024
            } else {
                number
            })
        };
        self.pids().into_iter().filter_map(value).sum()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Field `index` of /proc/PID/stat, counted from 0.
fn stat(pid: u32, index: usize) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in brackets, may hold anything.
    let rest = &stat[stat.rfind(')')? + 2..];
    rest.split(' ').nth(index - 2)?.parse().ok()
}

fn ticks_per_second() -> f64 {
    let told = Command::new("getconf").arg("CLK_TCK").output().ok();
    let told = told.and_then(|out| String::from_utf8(out.stdout).ok()?.trim().parse().ok());
    told.unwrap_or(100.0)
}

/// How many descriptors this process, and what it starts, may have open.
pub fn descriptor_limit() -> usize {
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    soft.unwrap_or(usize::MAX)
}
