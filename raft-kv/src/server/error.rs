//! Why a server does not start.

use std::fmt;
use std::io;

use crate::bootstrap::DirectoryError;
use crate::config::ConfigError;
use crate::tls::TlsError;

/// Why a server does not start.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration makes no sense.
    Config(ConfigError),
    /// The certificates cannot be used.
    Tls(TlsError),
    /// The data directory cannot be used.
    Directory(DirectoryError),
    /// An address cannot be listened at.
    Listen {
        /// The address.
        address: String,
        /// Why.
        error: io::Error,
    },
    /// The system refuses something else.
    Io(io::Error),
}

impl StartError {
    pub(super) fn listen(address: &str, error: io::Error) -> Self {
        Self::Listen { address: address.to_owned(), error }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<TlsError> for StartError {
    fn from(error: TlsError) -> Self {
        Self::Tls(error)
    }
}

impl From<DirectoryError> for StartError {
    fn from(error: DirectoryError) -> Self {
        Self::Directory(error)
    }
}

impl From<io::Error> for StartError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Tls(error) => error.fmt(f),
            Self::Directory(error) => error.fmt(f),
            Self::Listen { address, error } => write!(f, "cannot listen at {address}: {error}"),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for StartError {}
