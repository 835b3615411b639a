//! Certificates of a laboratory's control plane, and the kubeconfigs made of them.
//!
//! Owns: one authority for each laboratory, and who is who to the API server.
//! Does not: grant rights; RBAC objects in the cluster do.
//! Invariant: keys are readable by root alone and go with the laboratory's directory.

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType, date_time_ymd,
};
use serde_json::json;

use crate::error::Result;
use crate::files;

/// The directory with the laboratory's keys and certificates.
#[derive(Debug)]
pub struct Pki {
    directory: PathBuf,
    authority: Issuer<'static, KeyPair>,
}

/// Somebody who has a certificate.
#[derive(Debug, Clone, Copy)]
pub struct Identity<'a> {
    /// What its files are called.
    pub file: &'a str,
    /// The user's name.
    pub user: &'a str,
    /// The user's groups.
    pub groups: &'a [&'a str],
}

impl Pki {
    /// Makes the authority and the key that signs ServiceAccount tokens.
    pub fn make(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        let params = authority();
        let key = KeyPair::generate().context("making the authority's key")?;
        let certificate = params.self_signed(&key).context("making the authority's certificate")?;
        write(&directory.join("ca.crt"), &certificate.pem())?;
        write(&directory.join("ca.key"), &key.serialize_pem())?;
        let tokens = KeyPair::generate().context("making the key of tokens")?;
        write(&directory.join("tokens.key"), &tokens.serialize_pem())?;
        write(&directory.join("tokens.pub"), &tokens.public_key_pem())?;
        Ok(Self { directory: directory.to_owned(), authority: Issuer::new(params, key) })
    }

    /// That of a laboratory which is up.
    pub fn open(directory: &Path) -> Result<Self> {
        let path = directory.join("ca.key");
        let text = fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let key = KeyPair::from_pem(&text).with_context(|| path.display().to_string())?;
        Ok(Self { directory: directory.to_owned(), authority: Issuer::new(authority(), key) })
    }

    /// A certificate for a client that is also a server under these names and addresses.
    pub fn issue(&self, identity: &Identity<'_>, names: &[&str], addresses: &[IpAddr]) -> Result<()> {
        self.issue_until(None, identity, names, addresses)
    }

    /// The same, valid from a minute ago until a moment after the epoch.
    pub fn issue_until(
        &self,
        until: Option<Duration>,
        identity: &Identity<'_>,
        names: &[&str],
        addresses: &[IpAddr],
    ) -> Result<()> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).context("names of a certificate")?;
        params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
        params.distinguished_name.push(DnType::CommonName, identity.user);
        for group in identity.groups {
            params.distinguished_name.push(DnType::OrganizationName, *group);
        }
        if let Some(until) = until {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock")?;
            params.not_before = date_time_ymd(1970, 1, 1) + now.saturating_sub(Duration::from_secs(60));
            params.not_after = date_time_ymd(1970, 1, 1) + until;
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().context("making a key")?;
        let signed = params.signed_by(&key, &self.authority);
        let certificate = signed.with_context(|| format!("the certificate of {}", identity.user))?;
        write(&certificate_of(&self.directory, identity.file), &certificate.pem())?;
        write(&key_of(&self.directory, identity.file), &key.serialize_pem())
    }

    /// A certificate and a kubeconfig for a client of the API server.
    pub fn client(&self, identity: &Identity<'_>, server: &str) -> Result<()> {
        self.issue(identity, &[], &[])?;
        // JSON is YAML; the files are named rather than copied, so that a renewed certificate counts at once.
        let config = json!({
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "lab",
            "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": identity.file}}],
            "clusters": [{"name": "lab", "cluster": {
                "server": server,
                "certificate-authority": self.directory.join("ca.crt"),
            }}],
            "users": [{"name": identity.file, "user": {
                "client-certificate": certificate_of(&self.directory, identity.file),
                "client-key": key_of(&self.directory, identity.file),
            }}],
        });
        files::write_json(&kubeconfig_of(&self.directory, identity.file), &config)
    }
}

fn authority() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "tortie-lab");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params
}

/// Where somebody's kubeconfig is.
pub fn kubeconfig_of(directory: &Path, file: &str) -> PathBuf {
    directory.join(format!("{file}.conf"))
}

/// Where somebody's certificate is.
pub fn certificate_of(directory: &Path, file: &str) -> PathBuf {
    directory.join(format!("{file}.crt"))
}

/// Where somebody's key is.
pub fn key_of(directory: &Path, file: &str) -> PathBuf {
    directory.join(format!("{file}.key"))
}

fn write(path: &Path, text: &str) -> Result<()> {
    use std::io::Write as _;
    let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| path.display().to_string())?;
    Ok(file.write_all(text.as_bytes()).with_context(|| path.display().to_string())?)
}
