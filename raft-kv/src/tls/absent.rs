//! A build without TLS: whoever asks for it is told so.

use std::io;

use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::TcpStream;

use super::{ClientFiles, Files, TlsError};
use crate::transport::Connection;

/// What connects a client of the HTTP interface.
pub type Connector = HttpConnector;

/// What this server shows and believes; in this build there is none.
#[derive(Debug)]
pub enum Identity {}

/// What the files of an [`Identity`] hold now; in this build there is none.
#[derive(Debug)]
pub enum Renewed {}

impl Identity {
    /// Reads the files.
    ///
    /// # Errors
    /// Always: this build has no TLS.
    pub fn load(files: &Files, _: bool) -> Result<Self, TlsError> {
        Err(TlsError::absent(&files.cert))
    }

    /// Reads the files again.
    ///
    /// # Errors
    /// None: there is none to read them for.
    pub fn read_again(&self) -> Result<Renewed, TlsError> {
        match *self {}
    }

    /// From now on this is shown and believed.
    pub fn adopt(&self, _: Renewed) {
        match *self {}
    }

    /// Answers who has connected.
    ///
    /// # Errors
    /// None: nobody is answered.
    pub async fn accept(&self, _: TcpStream) -> io::Result<Connection> {
        match *self {}
    }

    /// Begins a connection to the server at `address`.
    ///
    /// # Errors
    /// None: there is none to begin it.
    pub async fn connect(&self, _: TcpStream, _: &str) -> io::Result<Connection> {
        match *self {}
    }
}

/// Connects by plain TCP.
///
/// # Errors
/// The files ask for more.
pub fn connector(http: HttpConnector, files: &ClientFiles) -> Result<Connector, TlsError> {
    let named = files.ca.as_ref().or(files.cert.as_ref().map(|(cert, _)| cert));
    named.map_or(Ok(http), |path| Err(TlsError::absent(path)))
}
