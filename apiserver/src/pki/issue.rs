//! Keys and certificates, made once and read from then on.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::{PkiError, Sans, files};

/// A client of the API server: file name, user and groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client<'a> {
    pub(super) name: &'a str,
    pub(super) common_name: &'a str,
    pub(super) organization: Option<&'a str>,
}

/// The client certificate of a node agent.
#[derive(Clone, Debug)]
pub struct NodeClient {
    name: String,
    common_name: String,
}

impl NodeClient {
    pub(super) fn new(node: &str) -> Self {
        Self { name: format!("kubelet-{node}"), common_name: format!("system:node:{node}") }
    }

    pub(super) fn borrow(&self) -> Client<'_> {
        Client {
            name: &self.name,
            common_name: &self.common_name,
            organization: Some("system:nodes"),
        }
    }
}

/// The identities that kubeadm makes too.
pub(super) const CLIENTS: &[Client<'static>] = &[
    Client { name: "admin", common_name: "kubernetes-admin", organization: Some("system:masters") },
    Client {
        name: "kube-controller-manager",
        common_name: "system:kube-controller-manager",
        organization: None,
    },
    Client { name: "kube-proxy", common_name: "system:kube-proxy", organization: None },
    Client { name: "kube-scheduler", common_name: "system:kube-scheduler", organization: None },
];

pub(super) struct Pair {
    pub(super) certificate_pem: String,
    pub(super) key_pem: String,
}

/// The cluster's CA.
pub(super) struct Authority {
    pub(super) certificate_pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").finish_non_exhaustive()
    }
}

impl Authority {
    pub(super) fn ensure(dir: &Path) -> Result<Self, PkiError> {
        let pair = match read_pair(dir, "ca")? {
            Some(pair) => pair,
            None => {
                let pair = new_ca().map_err(issue_error("ca"))?;
                write_pair(dir, "ca", &pair)?;
                pair
            }
        };
        let unusable = |path: &str| {
            let path = dir.join(path);
            move |error: rcgen::Error| PkiError::Parse { path, reason: error.to_string() }
        };
        let key = KeyPair::from_pem(&pair.key_pem).map_err(unusable("ca.key"))?;
        let issuer =
            Issuer::from_ca_cert_pem(&pair.certificate_pem, key).map_err(unusable("ca.crt"))?;
        Ok(Self { certificate_pem: pair.certificate_pem, issuer })
    }

    pub(super) fn ensure_serving(&self, dir: &Path, sans: &Sans) -> Result<Pair, PkiError> {
        const NAME: &str = "apiserver";
        if let Some(pair) = read_pair(dir, NAME)?
            && covers(&pair.certificate_pem, sans)
            && self.issued(&pair.certificate_pem)
        {
            return Ok(pair);
        }
        let pair = self.issue_serving(sans).map_err(issue_error(NAME))?;
        write_pair(dir, NAME, &pair)?;
        Ok(pair)
    }

    pub(super) fn ensure_client(&self, dir: &Path, client: &Client<'_>) -> Result<Pair, PkiError> {
        if let Some(pair) = read_pair(dir, client.name)?
            && self.issued(&pair.certificate_pem)
        {
            return Ok(pair);
        }
        let mut params = leaf(client.common_name, ExtendedKeyUsagePurpose::ClientAuth);
        if let Some(organization) = client.organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        let pair = self.sign(&params).map_err(issue_error(client.name))?;
        write_pair(dir, client.name, &pair)?;
        Ok(pair)
    }

    fn issue_serving(&self, sans: &Sans) -> Result<Pair, rcgen::Error> {
        let mut params = leaf("kube-apiserver", ExtendedKeyUsagePurpose::ServerAuth);
        for name in &sans.names {
            params.subject_alt_names.push(SanType::DnsName(name.as_str().try_into()?));
        }
        params.subject_alt_names.extend(sans.addresses.iter().map(|ip| SanType::IpAddress(*ip)));
        self.sign(&params)
    }

    fn sign(&self, params: &CertificateParams) -> Result<Pair, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Pair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }

    /// Whether the certificate is still valid and bears this CA's signature.
    fn issued(&self, certificate_pem: &str) -> bool {
        let parse = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).ok();
        let (Some(leaf), Some(ca)) = (parse(certificate_pem), parse(&self.certificate_pem)) else {
            return false;
        };
        let (Ok((_, leaf)), Ok((_, ca))) =
            (x509_parser::parse_x509_certificate(&leaf), x509_parser::parse_x509_certificate(&ca))
        else {
            return false;
        };
        leaf.validity().is_valid() && leaf.verify_signature(Some(ca.public_key())).is_ok()
    }
}

fn new_ca() -> Result<Pair, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, "kubernetes");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
    ];
    set_validity(&mut params);
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Pair { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
}

fn leaf(common_name: &str, usage: ExtendedKeyUsagePurpose) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    set_validity(&mut params);
    params
}

/// Fixed dates, because nothing rotates these certificates yet.
fn set_validity(params: &mut CertificateParams) {
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2044, 1, 1);
}

fn covers(certificate_pem: &str, sans: &Sans) -> bool {
    let Ok(der) = CertificateDer::from_pem_slice(certificate_pem.as_bytes()) else {
        return false;
    };
    let Ok((_, certificate)) = x509_parser::parse_x509_certificate(&der) else { return false };
    let Ok(Some(extension)) = certificate.subject_alternative_name() else { return false };
    let mut names = std::collections::BTreeSet::new();
    let mut addresses = std::collections::BTreeSet::new();
    for name in &extension.value.general_names {
        match name {
            x509_parser::extensions::GeneralName::DNSName(name) => {
                names.insert((*name).to_owned());
            }
            x509_parser::extensions::GeneralName::IPAddress(octets) => {
                addresses.extend(address(octets));
            }
            _ => {}
        }
    }
    names == sans.names && addresses == sans.addresses
}

fn address(octets: &[u8]) -> Option<std::net::IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(Into::into),
        16 => <[u8; 16]>::try_from(octets).ok().map(Into::into),
        _ => None,
    }
}

fn read_pair(dir: &Path, name: &str) -> Result<Option<Pair>, PkiError> {
    let certificate = files::read(&dir.join(format!("{name}.crt")))?;
    let key = files::read(&dir.join(format!("{name}.key")))?;
    Ok(certificate.zip(key).map(|(certificate_pem, key_pem)| Pair { certificate_pem, key_pem }))
}

/// The key goes first: a certificate without its key would be taken for a pair that is missing.
fn write_pair(dir: &Path, name: &str, pair: &Pair) -> Result<(), PkiError> {
    files::write_private(&dir.join(format!("{name}.key")), &pair.key_pem)?;
    files::write_public(&dir.join(format!("{name}.crt")), &pair.certificate_pem)
}

fn issue_error(name: &str) -> impl FnOnce(rcgen::Error) -> PkiError + use<> {
    let name = name.to_owned();
    move |source| PkiError::Issue { name, source }
}
