//! `raft-kv certs --dir DIR --host NAME..`: what a cluster without an authority of its own needs.
//!
//! There are two authorities, for whoever shows a certificate of the first is a server's equal: one
//! signs what servers show each other, the other what servers and clients show each other. What is there
//! is never replaced, and the authorities' own keys are not kept: nobody can sign anything more.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use raft_kv::tls::authority::{Authority, Issued};

use super::complain;

#[derive(Args, Debug)]
pub(super) struct Certs {
    /// Where to write peer-ca.pem, peer.pem, peer.key; client-ca.pem, server.pem, server.key,
    /// client.pem, client.key
    #[arg(long, default_value = "certs")]
    dir: PathBuf,
    /// A name or an address at which servers are reached; once for each
    #[arg(long = "host", value_name = "HOST", default_values = ["localhost", "127.0.0.1"])]
    hosts: Vec<String>,
    /// How long they are good
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(i64).range(1..=3650))]
    days: i64,
}

pub(super) fn run(certs: &Certs) -> ExitCode {
    match write_all(certs) {
        Ok(()) => ExitCode::SUCCESS,
        Err(what) => {
            complain(what);
            ExitCode::FAILURE
        }
    }
}

fn write_all(certs: &Certs) -> Result<(), String> {
    let text = |error: rcgen::Error| error.to_string();
    let days = -1..certs.days;
    let peers = Authority::draw("raft-kv authority for servers").map_err(text)?;
    let peer = peers.issue("raft-kv peer", &certs.hosts, &days).map_err(text)?;
    let clients = Authority::draw("raft-kv authority for clients").map_err(text)?;
    let server = clients.issue("raft-kv server", &certs.hosts, &days).map_err(text)?;
    let client = clients.issue("raft-kv client", &[], &days).map_err(text)?;
    let mut files = vec![
        ("peer-ca.pem".to_owned(), peers.cert()),
        ("client-ca.pem".to_owned(), clients.cert()),
    ];
    for (name, Issued { cert, key }) in [("peer", peer), ("server", server), ("client", client)] {
        files.extend([(format!("{name}.pem"), cert), (format!("{name}.key"), key)]);
    }
    // Half of a set beside half of another one would fit nobody.
    for (name, _) in &files {
        let path = certs.dir.join(name);
        if path.symlink_metadata().is_ok() {
            return Err(format!("{} is there already: nothing was written", path.display()));
        }
    }
    fs::create_dir_all(&certs.dir).map_err(|error| format!("{}: {error}", certs.dir.display()))?;
    files.iter().try_for_each(|(name, content)| write(&certs.dir, name, content))
}

/// Writes a file that only its owner can read, and that was not there.
fn write(dir: &Path, name: &str, content: &str) -> Result<(), String> {
    let path = dir.join(name);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    file.and_then(|mut file| file.write_all(content.as_bytes()))
        .map_err(|error| format!("{}: {error}", path.display()))
}
