//! TLS: files become what accepts connections.

use crate::config::TlsFiles;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject},
};
use std::{path::PathBuf, sync::Arc};
use tokio_rustls::TlsAcceptor;

/// Certificates or a key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TlsError {
    /// Not a file of PEM.
    #[error("{path}: {source}")]
    Pem { path: PathBuf, source: pem::Error },
    /// Nothing in it.
    #[error("{path}: no certificate in it")]
    NoCertificate { path: PathBuf },
    /// Certificate and key do not fit, or are of no kind that is known.
    #[error("TLS: {0}")]
    Rustls(#[from] rustls::Error),
}

/// What accepts connections with this certificate, HTTP/2 first.
pub(crate) fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, TlsError> {
    let path = files.certificates.clone();
    let bad = |source| TlsError::Pem { path: path.clone(), source };
    let chain = CertificateDer::pem_file_iter(&files.certificates).map_err(bad)?;
    let chain = chain.collect::<Result<Vec<_>, _>>().map_err(bad)?;
    if chain.is_empty() {
        return Err(TlsError::NoCertificate { path });
    }
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|source| TlsError::Pem { path: files.key.clone(), source })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}
