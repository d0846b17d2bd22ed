//! What connections are secured by: authorities, the client's own certificate, and what was agreed on with the server.
//!
//! Leaves out the connections. What a private key's file holds is read here and appears in no text.

use std::sync::{Arc, OnceLock};

use brokerlab_model::Settings;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, Error, RootCertStore};

use super::Parameters;
use crate::open::{OpenError, Trouble};
use crate::url::UrlError;

/// One URL's.
pub struct Security {
    pub(super) config: Arc<ClientConfig>,
    pub(super) parameters: Parameters,
    authorities: String,
    /// Version and cipher suite of the first connection.
    pub(super) agreed: OnceLock<(String, String)>,
}

impl std::fmt::Debug for Security {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Security").field("parameters", &self.parameters).finish_non_exhaustive()
    }
}

impl Security {
    /// Reads the files that are named, or the system's authorities.
    pub(super) fn read(parameters: &Parameters) -> Result<Self, OpenError> {
        let (roots, authorities) = match &parameters.ca {
            Some(file) => (authorities_of(file)?, file.clone()),
            None => authorities_of_the_system()?,
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| failed("tls.ca", "", &error.to_string()))?
            .with_root_certificates(roots);
        let config = match (&parameters.cert, &parameters.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(cert), Some(key)) => {
                let own = certificates("tls.cert", cert)?;
                // Not even the parser's words about it: they may quote it.
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|_| failed("tls.key", key, "it can't be read, or holds no private key in PEM"))?;
                builder.with_client_auth_cert(own, private).map_err(|error| unfit(&error, cert, key))?
            }
            (Some(cert), None) => return Err(failed("tls.cert", cert, "name its private key too, with tls.key=FILE")),
            (None, Some(key)) => return Err(failed("tls.key", key, "name its certificate too, with tls.cert=FILE")),
        };
        Ok(Self { config: Arc::new(config), parameters: parameters.clone(), authorities, agreed: OnceLock::new() })
    }

    /// Adds what is in force.
    pub fn in_force(&self, settings: &mut Settings) {
        if let Some((version, suite)) = self.agreed.get() {
            settings.add("tls.version", version, "agreed on with the server");
            settings.add("tls.cipher.suite", suite, "agreed on with the server");
        }
        settings.add("tls.ca", &self.authorities, "the authorities by which the server is verified");
        if let Some(name) = &self.parameters.server_name {
            settings.add("tls.server.name", name, "the name that its certificate has to have, in place of the host's");
        }
        if let Some(cert) = &self.parameters.cert {
            settings.add("tls.cert", cert, "the certificate that the client shows");
        }
    }
}

fn failed(key: &str, value: &str, reason: &str) -> OpenError {
    UrlError::Value { key: key.to_owned(), value: value.to_owned(), reason: reason.to_owned() }.into()
}

/// Why a certificate and a key don't serve.
#[allow(clippy::wildcard_enum_match_arm, reason = "what else goes wrong here is the key's kind, by whatever error")]
fn unfit(error: &Error, cert: &str, key: &str) -> OpenError {
    match error {
        Error::InvalidCertificate(reason) => {
            failed("tls.cert", cert, &format!("{reason}; version 3 of X.509 is needed"))
        }
        Error::InconsistentKeys(_) => failed("tls.key", key, "it is not the key of the certificate of tls.cert"),
        _ => failed("tls.key", key, "it is no private key that can be used; there are ECDSA, Ed25519 and RSA"),
    }
}

fn certificates(key: &str, file: &str) -> Result<Vec<CertificateDer<'static>>, OpenError> {
    let of = |error: rustls::pki_types::pem::Error| failed(key, file, &error.to_string());
    let found: Vec<_> = CertificateDer::pem_file_iter(file).map_err(of)?.collect::<Result<_, _>>().map_err(of)?;
    if found.is_empty() { Err(failed(key, file, "it holds no certificate in PEM")) } else { Ok(found) }
}

fn authorities_of(file: &str) -> Result<RootCertStore, OpenError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("tls.ca", file)? {
        roots.add(certificate).map_err(|error| failed("tls.ca", file, &error.to_string()))?;
    }
    Ok(roots)
}

fn authorities_of_the_system() -> Result<(RootCertStore, String), OpenError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let why = found.errors.first().map_or_else(|| "it has none".to_owned(), ToString::to_string);
        let trouble = Trouble::Tls {
            found: format!("the system's authorities can't be had: {why}"),
            remedy: "install them (on Debian and Ubuntu: ca-certificates), or name one with ?tls.ca=FILE",
        };
        return Err(OpenError::Trouble { at: "this machine".to_owned(), trouble });
    }
    Ok((roots, format!("the system's {usable}")))
}
