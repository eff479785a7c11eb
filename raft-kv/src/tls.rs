//! Who may speak to this server, and how others know that it is this one: certificates.
//!
//! Between servers both sides show a certificate that the same authority has signed, for the address
//! at which they are reached. To clients a server shows one; whether they must show one too is a
//! setting. The files are read again when the process is told so (SIGHUP), and a set that cannot be
//! used leaves the one before in force.
//!
//! The implementation is rustls, behind the cargo feature `tls`; without it, settings that ask for
//! certificates are refused, so that nobody believes to be protected who is not.
//!
//! Deliberately absent: revocation lists (short-lived certificates, and SIGHUP), and a way to tell
//! members apart by their certificates: who has one signed by the authority is a member's equal.

#[cfg(not(feature = "tls"))]
mod absent;
#[cfg(feature = "tls")]
pub mod authority;
#[cfg(feature = "tls")]
mod present;

use std::fmt;
use std::path::{Path, PathBuf};

#[cfg(not(feature = "tls"))]
use absent as chosen;
#[cfg(feature = "tls")]
use present as chosen;

pub use chosen::{Connector, Identity, Renewed, connector};

/// Three files, each in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate to show, and whatever leads from it to the authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
    /// The authorities whose signatures are believed.
    pub ca: PathBuf,
}

/// What a client of the HTTP interface needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientFiles {
    /// The authorities whose signatures are believed; `None`: only plain HTTP is spoken.
    pub ca: Option<PathBuf>,
    /// The certificate to show if a server asks for one, and its private key.
    pub cert: Option<(PathBuf, PathBuf)>,
}

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(String);

impl TlsError {
    #[cfg(feature = "tls")]
    fn of(path: &Path, what: impl fmt::Display) -> Self {
        Self(format!("{}: {what}", path.display()))
    }

    #[cfg(not(feature = "tls"))]
    fn absent(path: &Path) -> Self {
        let path = path.display();
        Self(format!("{path} asks for TLS, and this program was built without --features tls"))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}
