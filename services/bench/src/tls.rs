//! TLS in front of the embedded DynamoDB, with a certificate authority that exists for one run.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::PrivatePkcs8KeyDer;

/// TLS could not be set up on this machine.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    /// No certificate.
    #[error("cannot make a certificate")]
    Certificate(#[from] rcgen::Error),
    /// No TLS server with it.
    #[error("cannot serve TLS")]
    Server(#[from] tokio_rustls::rustls::Error),
    /// No port, or no file.
    #[error("cannot listen, or write the trust store")]
    System(#[from] std::io::Error),
}

/// A TLS endpoint that passes on what it is sent. Dropping it stops it.
#[derive(Debug)]
pub(crate) struct Tls {
    address: SocketAddr,
    authority: String,
    server: JoinHandle<()>,
}

impl Tls {
    /// Starts one that passes everything on to `to`, an address with a port.
    ///
    /// # Errors
    /// [`TlsError`]
    pub(crate) async fn before(to: &str) -> Result<Tls, TlsError> {
        let mut authority = CertificateParams::default();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        authority
            .distinguished_name
            .push(DnType::CommonName, "benchmark of patient check-ins");
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let mut server = CertificateParams::new(vec![Ipv4Addr::LOCALHOST.to_string()])?;
        server.use_authority_key_identifier_extension = true;
        server.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = server.signed_by(&key, &authority)?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
            )?;
        // All that DynamoDB speaks.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];

        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let to: Arc<str> = to.into();
        let server = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(pass_on(acceptor.clone(), connection, to.clone()));
            }
        });
        Ok(Tls {
            address,
            authority: authority.pem(),
            server,
        })
    }

    /// Where it listens: `https://127.0.0.1:PORT`.
    #[must_use]
    pub(crate) fn endpoint_url(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Writes a trust store: the certificates of `file` and its own authority.
    ///
    /// # Errors
    /// [`TlsError::System`]
    pub(crate) fn write_trust_store(&self, file: &Path, to: PathBuf) -> Result<PathBuf, TlsError> {
        let mut store = std::fs::read_to_string(file)?;
        store.push('\n');
        store.push_str(&self.authority);
        std::fs::write(&to, store)?;
        Ok(to)
    }

    /// Writes its authority alone.
    ///
    /// # Errors
    /// [`TlsError::System`]
    pub(crate) fn write_authority(&self, to: PathBuf) -> Result<PathBuf, TlsError> {
        std::fs::write(&to, &self.authority)?;
        Ok(to)
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// What a client does wrong is the client's to tell.
async fn pass_on(acceptor: TlsAcceptor, connection: TcpStream, to: Arc<str>) {
    // Or small answers would wait for more.
    if connection.set_nodelay(true).is_err() {
        return;
    }
    let Ok(mut client) = acceptor.accept(connection).await else {
        return;
    };
    let Ok(mut server) = TcpStream::connect(&*to).await else {
        return;
    };
    if server.set_nodelay(true).is_err() {
        return;
    }
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}
