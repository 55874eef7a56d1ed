//! Whose word is taken for who a machine is: the certificate authorities that speak for `https` destinations. There is no
//! way around them, and no way back to plain text.

use std::error::Error;
use std::io;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{CertificateError, ClientConfig, RootCertStore};

use crate::domain::reason::{Reason, Refusal};

/// The authorities that are trusted, ready for connections.
#[derive(Debug, Clone)]
pub struct Trust {
    config: Arc<ClientConfig>,
}

impl Trust {
    /// The machine's own authorities, those that browsers trust where the machine has none, and the operator's further
    /// ones: PEM, at least one. Blocks.
    pub fn of_machine(further: Option<&[u8]>) -> Result<Self, Refusal> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        if let Some(pem) = further {
            add(&mut roots, pem)?;
        }
        Self::of(roots)
    }

    /// These authorities alone, PEM.
    pub fn only(pem: &[u8]) -> Result<Self, Refusal> {
        let mut roots = RootCertStore::empty();
        add(&mut roots, pem)?;
        Self::of(roots)
    }

    fn of(roots: RootCertStore) -> Result<Self, Refusal> {
        let broken = |error| Refusal::new(Reason::InternalError, format!("TLS cannot be set up: {error}"));
        let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self { config: Arc::new(config) })
    }

    /// The settings of a connection.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.config)
    }
}

fn add(roots: &mut RootCertStore, pem: &[u8]) -> Result<(), Refusal> {
    let invalid = |problem: String| Refusal::new(Reason::ConfigInvalid, format!("further authorities: {problem}"));
    let before = roots.len();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|error| invalid(format!("not PEM: {error}")))?;
        roots.add(certificate).map_err(|error| invalid(format!("not a certificate of an authority: {error}")))?;
    }
    if roots.len() == before { Err(invalid("no certificate".to_owned())) } else { Ok(()) }
}

/// What TLS objects to, where an error is TLS's.
pub(super) fn objection(error: &(dyn Error + 'static)) -> Option<String> {
    let mut cause = Some(error);
    while let Some(one) = cause {
        // An error of input and output names what is inside of its inner error as its cause, not the inner error.
        let inner = one.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let found = one.downcast_ref::<rustls::Error>().or_else(|| inner?.downcast_ref::<rustls::Error>());
        if let Some(fault) = found {
            return Some(worded(fault));
        }
        cause = match inner {
            Some(inner) => Some(inner),
            None => one.source(),
        };
    }
    None
}

fn worded(fault: &rustls::Error) -> String {
    let rustls::Error::InvalidCertificate(problem) = fault else {
        return format!("no TLS connection came about: {fault}");
    };
    let problem = match problem {
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => "it has expired".to_owned(),
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => "it is not valid yet".to_owned(),
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "no trusted authority vouches for it".to_owned()
        }
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            "it is another machine's".to_owned()
        }
        other => format!("{other:?}"),
    };
    format!("the certificate cannot be trusted: {problem}")
}
