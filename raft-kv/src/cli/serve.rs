//! `raft-kv --id 1 --addr ..`: runs a server until it is asked to end or cannot go on.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args};
use raft_kv::config::{LogFormat, ServerConfig, Settings};
use raft_kv::node::End;
use raft_kv::server::{Server, StartError};
use raft_kv::tls::Identity;
use raft_kv::transport::Transport;
use raft_kv::transport::tcp::Tcp;
use raft_kv::transport::tls::Tls;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{error, info};

use super::{USAGE, complain};

/// A server's command line.
#[derive(Args, Debug)]
pub(super) struct Serve {
    #[command(flatten)]
    settings: Settings,
    /// A file with the settings of all nodes
    #[arg(short = 'c', long, env = "RAFT_KV_CONFIG", value_name = "FILE", requires = "node")]
    config: Option<PathBuf>,
    /// Which of the file's nodes this is
    #[arg(short = 'n', long, env = "RAFT_KV_NODE", value_name = "NAME", requires = "config")]
    node: Option<String>,
    /// Print the settings that result, and end
    #[arg(long)]
    print_config: bool,
}

impl Serve {
    /// Of two forms of one setting the command line's wins over the environment's; the parser knows
    /// them as two.
    pub(super) fn preferring_flags(mut self, matches: &ArgMatches) -> Self {
        let is_from = |name, source| matches.value_source(name) == Some(source);
        let loses = |name, to| {
            is_from(name, ValueSource::EnvVariable) && is_from(to, ValueSource::CommandLine)
        };
        if loses("token", "client_token_file") {
            self.settings.token = None;
        }
        if loses("client_token_file", "token") {
            self.settings.client_token_file = None;
        }
        if loses("peers", "peer") {
            self.settings.peers.clear();
        }
        self
    }
}

/// Runs the server.
pub(super) fn run(serve: Serve) -> ExitCode {
    let (print_config, name) = (serve.print_config, serve.node.clone());
    let config = match resolve(serve) {
        Ok(config) => config,
        Err(error) => {
            complain(error);
            return USAGE.into();
        }
    };
    if print_config {
        let name = name.unwrap_or_else(|| format!("node{}", config.id.0));
        return print(&config, &name);
    }
    start_log(config.log_format);
    let outcome = complete(serve_until_end(config)).unwrap_or_else(|error| Err(error.to_string()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

/// How long what blocks a thread may take to end, once nobody waits for it: the look-up of a name that
/// no server answers lasts half a minute.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// Runs to the end, and waits for nothing else.
fn complete<T>(future: impl Future<Output = T>) -> io::Result<T> {
    let runtime = Runtime::new()?;
    let outcome = runtime.block_on(future);
    runtime.shutdown_timeout(LAST_MOMENT);
    Ok(outcome)
}

fn resolve(serve: Serve) -> Result<ServerConfig, raft_kv::config::ConfigError> {
    let settings = match (&serve.config, &serve.node) {
        (Some(file), Some(node)) => serve.settings.or(Settings::from_file(file, node)?),
        (_, _) => serve.settings,
    };
    settings.resolve()
}

async fn serve_until_end(config: ServerConfig) -> Result<(), String> {
    let id = config.id.0;
    let mut terminate = signal(SignalKind::terminate()).map_err(|error| error.to_string())?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(|error| error.to_string())?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(|error| error.to_string())?;
    // Between servers everybody shows a certificate.
    let load = |files| Identity::load(files, true).map(Arc::new);
    let peers = config.peer_tls.as_ref().map(load).transpose();
    let peers = peers.map_err(|error| error.to_string())?;
    let transport: Arc<dyn Transport> = match &peers {
        Some(identity) => Arc::new(Tls::new(Arc::clone(identity))),
        None => Arc::new(Tcp),
    };
    let server = Server::start(config, transport).await;
    let mut server = server.map_err(|error| error.to_string())?;
    info!(
        node = id,
        peers = server.peer_address(),
        clients = %server.client_address(),
        "listening"
    );
    let end = loop {
        tokio::select! {
            end = server.ended() => break Some(end),
            _ = terminate.recv() => break None,
            _ = interrupt.recv() => break None,
            _ = hang_up.recv() => reload(&server, peers.as_deref()),
        }
    };
    match end {
        Some(End::Failed(reason)) => {
            server.halt().await;
            Err(reason)
        }
        Some(End::Stopped) | None => {
            info!("ending");
            server.stop().await;
            Ok(())
        }
    }
}

/// Certificates and the token are renewed while the server runs: all that is in files, or, if anything
/// is wrong with one of them, nothing. A bad set must not end the server.
fn reload(server: &Server, peers: Option<&Identity>) {
    let next = peers.map(Identity::read_again).transpose().map_err(StartError::from);
    match next.and_then(|next| Ok((next, server.read_again()?))) {
        Ok((next, renewal)) => {
            let mut renewed = renewal.what();
            if let Some((identity, next)) = peers.zip(next) {
                identity.adopt(next);
                renewed.insert(0, "the certificates between servers");
            }
            server.adopt(renewal);
            if renewed.is_empty() {
                info!("there is nothing to read again: no certificate and no token is in a file");
            } else {
                info!("read again: {}", renewed.join(", "));
            }
        }
        Err(error) => error!(%error, "nothing was read again: all stays as it was"),
    }
}

fn start_log(format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(tracing::Level::INFO);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

#[expect(clippy::print_stdout, reason = "the product of --print-config")]
fn print(config: &ServerConfig, name: &str) -> ExitCode {
    match Settings::to_toml(config, name) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_waits_for_no_look_up() {
        let (answer, asked) = std::sync::mpsc::channel::<()>();
        let outcome = complete(async {
            // It lasts until this test is over.
            drop(tokio::task::spawn_blocking(move || asked.recv()));
            7
        });
        assert_eq!(outcome.unwrap(), 7);
        drop(answer);
    }
}
