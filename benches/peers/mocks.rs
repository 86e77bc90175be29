//! The mock upstreams, in a process of their own so that their work is nobody else's.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::process::Tree;
use crate::upstream::{Behaviour, Stats, Upstream};
use crate::{Result, door};

pub struct Mocks {
    _tree: Tree,
    addrs: Vec<SocketAddr>,
}

impl Mocks {
    pub async fn start(count: usize, dir: &Path) -> Result<Self> {
        let ports: Vec<u16> = (0..count).map(|_| free_port()).collect::<io::Result<_>>()?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .arg("upstream")
            .args(ports.iter().map(|port| format!("127.0.0.1:{port}")));
        let tree = Tree::start(&mut command, &dir.join("upstream.log"))?;
        let addrs: Vec<SocketAddr> = ports
            .iter()
            .map(|port| ([127, 0, 0, 1], *port).into())
            .collect();
        for addr in &addrs {
            let mut patience = 500;
            while door::get(*addr, "/v1/models").await.is_none() {
                patience -= 1;
                if patience == 0 {
                    return Err(format!(
                        "the upstream at {addr} does not answer; see {}",
                        dir.display()
                    )
                    .into());
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(Self { _tree: tree, addrs })
    }

    pub fn addr(&self, index: usize) -> SocketAddr {
        self.addrs[index]
    }

    pub fn addrs(&self) -> &[SocketAddr] {
        &self.addrs
    }

    /// The default behaviour with the fields of `change` changed.
    pub async fn behave(&self, index: usize, change: &Value) -> Result<()> {
        let mut all = json!(Behaviour::default());
        for (key, value) in change.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        // By way of another: one that refuses connections hears nothing.
        let other = self.addrs[(index + 1) % self.addrs.len()];
        let path = format!("/__behave?port={}", self.addrs[index].port());
        let told = door::send(other, Method::POST, &path, all.to_string()).await;
        match told {
            Some((200, _)) => Ok(()),
            other => Err(format!("the upstream did not accept {change}: {other:?}").into()),
        }
    }

    pub async fn behave_all(&self, change: &Value) -> Result<()> {
        for index in 0..self.addrs.len() {
            self.behave(index, change).await?;
        }
        Ok(())
    }

    pub async fn stats(&self, index: usize) -> Option<Stats> {
        serde_json::from_value(door::get_json(self.addrs[index], "/__stats").await?).ok()
    }
}

/// A port that was free a moment ago.
pub fn free_port() -> io::Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?
        .local_addr()?
        .port())
}

/// The process itself: serves until it is killed, or until whoever started it is gone.
pub async fn serve(addrs: &[String]) -> Result<()> {
    let mut all = Vec::new();
    for addr in addrs {
        all.push(Upstream::start(addr, Behaviour::default()).await?);
    }
    let parent = std::os::unix::process::parent_id();
    while std::os::unix::process::parent_id() == parent {
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    Ok(())
}

/// Whether a program is there and runs.
pub fn runs(program: &Path, argument: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg(argument)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}
