//! TLS by rustls, with the cryptography of `ring`: no system library, no cmake.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::net::TcpStream;
use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{Error as PemError, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{
    ClientConfig, ConfigBuilder, RootCertStore, ServerConfig, SupportedProtocolVersion, version,
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{ClientFiles, Files, TlsError};
use crate::transport::Connection;

/// What connects a client of the HTTP interface, with TLS where the URL says `https`.
pub type Connector = HttpsConnector<HttpConnector>;

/// Nothing older: there is nobody to be compatible with.
const VERSIONS: &[&SupportedProtocolVersion] = &[&version::TLS13];

/// What this server shows, and whom it believes.
pub struct Identity {
    files: Files,
    asks: bool,
    now: RwLock<Configs>,
}

#[derive(Clone)]
struct Configs {
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
}

/// What the files of an [`Identity`] hold now.
pub struct Renewed(Configs);

impl fmt::Debug for Renewed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Renewed").finish_non_exhaustive()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("files", &self.files).finish_non_exhaustive()
    }
}

impl Identity {
    /// Reads the files. Who connects must show a certificate if this server `asks` for one.
    ///
    /// # Errors
    /// A file cannot be read, or what is in it makes no sense.
    pub fn load(files: &Files, asks: bool) -> Result<Self, TlsError> {
        let now = RwLock::new(configs(files, asks)?);
        Ok(Self { files: files.clone(), asks, now })
    }

    /// Reads the files again; nothing changes until what they hold is adopted.
    ///
    /// # Errors
    /// As for [`Identity::load`].
    pub fn read_again(&self) -> Result<Renewed, TlsError> {
        configs(&self.files, self.asks).map(Renewed)
    }

    /// From now on this is shown and believed. Connections that stand are not touched.
    pub fn adopt(&self, next: Renewed) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = next.0;
    }

    /// Answers who has connected. The caller sets the time limit.
    ///
    /// # Errors
    /// It speaks something else, or shows no certificate that is believed.
    pub async fn accept(&self, stream: TcpStream) -> io::Result<Connection> {
        let acceptor = TlsAcceptor::from(self.now().server);
        Ok(Box::new(acceptor.accept(stream).await?))
    }

    /// Begins a connection to the server at `address`, which must be whom its certificate names. The
    /// caller sets the time limit.
    ///
    /// # Errors
    /// It speaks something else, or shows no certificate that is believed, or one for somebody else.
    pub async fn connect(&self, stream: TcpStream, address: &str) -> io::Result<Connection> {
        let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let name = ServerName::try_from(host).map_err(io::Error::other)?;
        let connector = TlsConnector::from(self.now().client);
        Ok(Box::new(connector.connect(name, stream).await?))
    }

    fn now(&self) -> Configs {
        self.now.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn configs(files: &Files, asks: bool) -> Result<Configs, TlsError> {
    let roots = Arc::new(roots(&files.ca)?);
    let fail = |error| TlsError::of(&files.cert, error);
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(fail)?;
    let builder = if asks {
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), provider());
        let verifier = verifier.build().map_err(|error| TlsError::of(&files.ca, error))?;
        builder.with_client_cert_verifier(verifier)
    } else {
        builder.with_no_client_auth()
    };
    let server = builder
        .with_single_cert(chain(&files.cert)?, key(&files.key)?)
        .map_err(|error| TlsError::of(&files.cert, error))?;
    let client = believing(roots, &files.ca)?
        .with_client_auth_cert(chain(&files.cert)?, key(&files.key)?)
        .map_err(|error| TlsError::of(&files.cert, error))?;
    Ok(Configs { server: Arc::new(server), client: Arc::new(client) })
}

/// Connects with TLS where the URL says so.
///
/// # Errors
/// A file cannot be read, or what is in it makes no sense.
pub fn connector(mut http: HttpConnector, files: &ClientFiles) -> Result<Connector, TlsError> {
    let (path, roots) = match &files.ca {
        Some(path) => (path.as_path(), roots(path)?),
        // Nobody is believed: an https URL is refused when it is asked for.
        None => (Path::new(""), RootCertStore::empty()),
    };
    let builder = believing(Arc::new(roots), path)?;
    let config = match &files.cert {
        Some((cert, private)) => builder
            .with_client_auth_cert(chain(cert)?, key(private)?)
            .map_err(|error| TlsError::of(cert, error))?,
        None => builder.with_no_client_auth(),
    };
    http.enforce_http(false);
    let builder = HttpsConnectorBuilder::new().with_tls_config(config);
    // Whoever names an authority wants no connection without: a token would go out in the clear.
    let builder = if files.ca.is_some() { builder.https_only() } else { builder.https_or_http() };
    Ok(builder.enable_http1().wrap_connector(http))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn believing(
    roots: Arc<RootCertStore>,
    path: &Path,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, TlsError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(VERSIONS)
        .map_err(|error| TlsError::of(path, error))?;
    Ok(builder.with_root_certificates(roots))
}

fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for cert in chain(path)? {
        roots.add(cert).map_err(|error| TlsError::of(path, error))?;
    }
    Ok(roots)
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fail = |error: PemError| TlsError::of(path, error);
    let found: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).map_err(fail)?.collect();
    let found = found.map_err(fail)?;
    if found.is_empty() {
        return Err(TlsError::of(path, "it holds no certificate"));
    }
    Ok(found)
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_file(path).map_err(|error| TlsError::of(path, error))
}
