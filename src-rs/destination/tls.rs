//! TLS towards a server: which authorities may sign its certificate, the certificate of the client, and what a
//! failed handshake means.
//!
//! Invariants:
//! - With `tls.ca` nobody else is trusted: not the system's authorities and not the bundled ones.
//! - Without it the bundled authorities serve where the system has none.
//! - Text that is no certificate or no key is `CONFIG_INVALID` before anything is connected to: if it were
//!   ignored, the handshake would fail later with an error about the server.
//! - No key is ever part of a message.
//!
//! It connects to nothing, and it does not decide whether a handshake is tried again.

use std::io;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tonic::transport::{ClientTlsConfig, Identity};

use crate::config::TlsOptions;
use crate::error::{Code, Error, Result};

/// What gRPC is spoken in.
const ALPN: &[u8] = b"h2";

/// Everything that `tls` names, read and checked.
pub struct Material {
    /// Instead of all others.
    authorities: Option<Vec<CertificateDer<'static>>>,
    own: Option<Own>,
    name: Option<String>,
}

/// Who we are, as it is in the files.
struct Own {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Material {
    /// # Errors
    /// `CONFIG_INVALID` for what is no PEM, holds nothing of its kind, or does not fit together.
    pub fn read(options: &TlsOptions) -> Result<Material> {
        let authorities = match &options.ca {
            Some(ca) => Some(certificates(&pem(ca, "tls.ca")?, "tls.ca")?),
            None => None,
        };
        let own = match (&options.cert, &options.key) {
            (Some(certificate), Some(key)) => Some(Own {
                certificate: pem(certificate, "tls.cert")?,
                key: pem(key.reveal(), "tls.key")?,
            }),
            _ => None,
        };
        let material = Material {
            authorities,
            own,
            name: options.server_name.clone(),
        };
        // Whether all of it fits together is best tried.
        material.client().map(|_| material)
    }

    /// For a connection that is ours from the socket on.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for a certificate and a key that do not belong together.
    pub fn client(&self) -> Result<ClientConfig> {
        let builder = ClientConfig::builder().with_root_certificates(self.roots()?);
        let mut client = match &self.own {
            None => builder.with_no_client_auth(),
            Some(own) => {
                let chain = certificates(&own.certificate, "tls.cert")?;
                let key = PrivateKeyDer::from_pem_slice(&own.key)
                    // The parser's own complaint may quote a line of it.
                    .map_err(|_| invalid("tls.key holds no private key in PEM"))?;
                builder.with_client_auth_cert(chain, key).map_err(|error| {
                    invalid("tls.cert and tls.key cannot be used together").caused_by(&error)
                })?
            }
        };
        client.alpn_protocols.push(ALPN.to_vec());
        Ok(client)
    }

    /// The same for a library that makes its connections itself.
    ///
    /// # Errors
    /// `CONFIG_INVALID` for an authority that is none.
    pub fn tonic(&self) -> Result<ClientTlsConfig> {
        let mut tls = ClientTlsConfig::new().trust_anchors(self.roots()?.roots);
        if let Some(own) = &self.own {
            tls = tls.identity(Identity::from_pem(&own.certificate, &own.key));
        }
        if let Some(name) = &self.name {
            tls = tls.domain_name(name);
        }
        Ok(tls)
    }

    /// The only authorities to trust, if there are such.
    pub fn authorities(&self) -> Option<&[CertificateDer<'static>]> {
        self.authorities.as_deref()
    }

    /// Certificate and key in one PEM.
    pub fn own(&self) -> Option<Vec<u8>> {
        let own = self.own.as_ref()?;
        Some([&own.certificate[..], b"\n", &own.key].concat())
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(authorities) => {
                for authority in authorities {
                    roots.add(authority.clone()).map_err(|error| {
                        invalid("tls.ca holds something that is no certificate").caused_by(&error)
                    })?;
                }
            }
            None => {
                // A system without certificates, as in many containers, is no reason to fail.
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
            }
        }
        Ok(roots)
    }
}

/// Whether a handshake has agreed on HTTP/2.
pub fn speaks_http2(alpn: Option<&[u8]>) -> bool {
    alpn == Some(ALPN)
}

fn certificates(pem: &[u8], option: &str) -> Result<Vec<CertificateDer<'static>>> {
    let found: std::result::Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.map_err(|error| {
        let text = format!("{option} cannot be read as PEM");
        invalid(&text).caused_by(&error)
    })?;
    match found.is_empty() {
        true => Err(invalid(&format!("{option} holds no certificate in PEM"))),
        false => Ok(found),
    }
}

/// The text itself, or of the file that it names.
fn pem(given: &str, option: &str) -> Result<Vec<u8>> {
    if given.trim_start().starts_with("-----BEGIN") {
        return Ok(given.as_bytes().to_vec());
    }
    std::fs::read(given).map_err(|error| {
        // What was given is not quoted: it may be a key without its first line.
        let text = format!("{option} is neither PEM nor a file that can be read");
        invalid(&text).caused_by(&error)
    })
}

/// Why a handshake failed, and what to change, if the same handshake fails again. `name` is what the
/// server's certificate has to be for.
pub fn explained(error: &(dyn std::error::Error + 'static), name: &str, own_ca: bool) -> Option<String> {
    if let Some(error) = found::<rustls::Error>(error) {
        return of_rustls(error, name, own_ca);
    }
    // tonic's own word; the type is not to be had.
    chain(error)
        .any(|error| error.to_string().starts_with("HTTP/2 was not negotiated"))
        .then(|| NO_HTTP2.to_string())
}

/// The other side speaks TLS, and no HTTP/2 in it.
pub const NO_HTTP2: &str =
    "the server speaks TLS but offers no HTTP/2 (ALPN h2): this is no port that gRPC is served on";

fn of_rustls(error: &rustls::Error, name: &str, own_ca: bool) -> Option<String> {
    use rustls::Error as Rustls;
    Some(match error {
        Rustls::InvalidCertificate(error) => of_certificate(error, name, own_ca),
        Rustls::InvalidMessage(_) => {
            "the server does not speak TLS on this port: connect without it, or give the port that does"
                .into()
        }
        Rustls::NoApplicationProtocol | Rustls::AlertReceived(AlertDescription::NoApplicationProtocol) => {
            NO_HTTP2.into()
        }
        Rustls::AlertReceived(AlertDescription::CertificateRequired) => {
            "the server wants a certificate of this client: give tls.cert and tls.key".into()
        }
        Rustls::AlertReceived(
            alert @ (AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::UnknownCA
            | AlertDescription::AccessDenied),
        ) => format!("the server does not accept this client's certificate (tls.cert): {alert:?}"),
        Rustls::AlertReceived(
            alert @ (AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity),
        ) => format!(
            "the server refuses the handshake ({alert:?}): it may want a certificate (tls.cert, tls.key), or a version of TLS older than 1.2"
        ),
        Rustls::AlertReceived(AlertDescription::UnrecognisedName) => {
            format!(
                "the server knows no {name}: connect by the name that it serves, or say it in tls.serverName"
            )
        }
        Rustls::PeerIncompatible(why) => {
            format!("the server has no version of TLS in common with this client: {why:?}")
        }
        _ => return None,
    })
}

fn of_certificate(error: &CertificateError, name: &str, own_ca: bool) -> String {
    match error {
        CertificateError::UnknownIssuer if own_ca => {
            "the server's certificate is signed by none of the authorities in tls.ca, which are the only ones trusted: give the one that signed it"
                .into()
        }
        CertificateError::UnknownIssuer => {
            "the server's certificate is signed by no authority that is known here: give the one that signed it as tls.ca"
                .into()
        }
        CertificateError::NotValidForName => {
            format!("the server's certificate is not for {name}: connect by its name, or say it in tls.serverName")
        }
        CertificateError::NotValidForNameContext { presented, .. } => {
            let presented = match presented.is_empty() {
                true => "no name".to_string(),
                false => presented.join(", "),
            };
            format!(
                "the server's certificate is for {presented} and not for {name}: connect by its name, or say it in tls.serverName"
            )
        }
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            format!("the server's certificate has expired: renew it there, or set this machine's clock ({error})")
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            format!("the server's certificate is not valid yet: wait, or set this machine's clock ({error})")
        }
        other => format!("the server's certificate is not accepted: {other}"),
    }
}

/// An error and what caused it, one after the other. What an [`io::Error`] was made of is among them, which
/// its own `source` leaves out.
pub fn chain<'e>(
    error: &'e (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn std::error::Error + 'static)),
            None => error.source(),
        }
    })
}

/// The first error of a kind in a chain.
pub fn found<'e, E: std::error::Error + 'static>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e E> {
    chain(error).find_map(|error| error.downcast_ref::<E>())
}

fn invalid(text: &str) -> Error {
    Error::new(Code::ConfigInvalid, text).during("connect")
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::UnixTime;
    use rustls::{Error as Rustls, InvalidMessage, PeerIncompatible};

    use super::*;

    fn told(error: Rustls) -> Option<String> {
        let error = io::Error::new(io::ErrorKind::InvalidData, error);
        explained(&error, "here.example.com", false)
    }

    /// Each names what is wrong and what to change; what may pass has no words here and is tried again.
    #[test]
    fn what_fails_a_handshake_for_good_is_told_in_words() {
        let at = UnixTime::now();
        let alert = Rustls::AlertReceived;
        for (error, word) in [
            (
                CertificateError::UnknownIssuer.into(),
                "give the one that signed it as tls.ca",
            ),
            (
                CertificateError::NotValidForName.into(),
                "not for here.example.com",
            ),
            (
                CertificateError::NotValidForNameContext {
                    expected: rustls::pki_types::ServerName::try_from("here.example.com").unwrap(),
                    presented: Vec::new(),
                }
                .into(),
                "is for no name and not for here.example.com",
            ),
            (
                CertificateError::ExpiredContext {
                    time: at,
                    not_after: at,
                }
                .into(),
                "has expired",
            ),
            (
                CertificateError::NotValidYetContext {
                    time: at,
                    not_before: at,
                }
                .into(),
                "not valid yet",
            ),
            (CertificateError::Revoked.into(), "is not accepted"),
            (
                Rustls::InvalidMessage(InvalidMessage::InvalidContentType),
                "does not speak TLS",
            ),
            (Rustls::NoApplicationProtocol, "ALPN"),
            (alert(AlertDescription::NoApplicationProtocol), "ALPN"),
            (
                alert(AlertDescription::CertificateRequired),
                "tls.cert and tls.key",
            ),
            (
                alert(AlertDescription::UnknownCA),
                "does not accept this client's certificate",
            ),
            (alert(AlertDescription::HandshakeFailure), "refuses the handshake"),
            (alert(AlertDescription::UnrecognisedName), "tls.serverName"),
            (
                Rustls::PeerIncompatible(PeerIncompatible::ServerDoesNotSupportTls12Or13),
                "no version of TLS in common",
            ),
        ] {
            let said = told(error).unwrap();
            assert!(said.contains(word), "{word}: {said}");
        }
        assert_eq!(told(alert(AlertDescription::InternalError)), None);
        assert_eq!(told(Rustls::HandshakeNotComplete), None);
        let other = io::Error::other("HTTP/2 was not negotiated.");
        assert_eq!(explained(&other, "", false).as_deref(), Some(NO_HTTP2));
        assert_eq!(explained(&io::Error::other("no route"), "", false), None);
    }
}
