//! `raft-kv --id 1 --addr ..`: runs a server until it is asked to end or cannot go on.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use raft_kv::config::{LogFormat, ServerConfig, Settings};
use raft_kv::node::End;
use raft_kv::server::Server;
use raft_kv::tls::Identity;
use raft_kv::transport::Transport;
use raft_kv::transport::tcp::Tcp;
use raft_kv::transport::tls::Tls;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

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

/// Runs the server.
pub(super) fn run(serve: Serve) -> ExitCode {
    let print_config = serve.print_config;
    let config = match resolve(serve) {
        Ok(config) => config,
        Err(error) => {
            complain(error);
            return USAGE.into();
        }
    };
    if print_config {
        return print(&config);
    }
    start_log(config.log_format);
    let outcome = Runtime::new()
        .map_err(|error| error.to_string())
        .and_then(|runtime| runtime.block_on(serve_until_end(config)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(error);
            ExitCode::FAILURE
        }
    }
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

/// Certificates are renewed while the server runs; a bad set must not end it.
fn reload(server: &Server, peers: Option<&Identity>) {
    let outcome = peers.map_or(Ok(()), Identity::reload).and_then(|()| server.reload());
    match outcome {
        Ok(()) => info!("the certificates were read again"),
        Err(error) => warn!(%error, "the certificates stay as they were"),
    }
}

fn start_log(format: LogFormat) {
    let builder = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .with_max_level(tracing::Level::INFO);
    match format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.json().init(),
    }
}

#[expect(clippy::print_stdout, reason = "the product of --print-config")]
fn print(config: &ServerConfig) -> ExitCode {
    match Settings::of(config).to_toml() {
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
