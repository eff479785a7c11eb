//! An authority of one's own, and what it signs: for clusters without one, for trying things out, and
//! for tests. An organisation that has an authority uses that.

use std::net::IpAddr;
use std::ops::Range;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, Error, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Somebody who signs.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its private key, in PEM form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issued {
    /// The certificate.
    pub cert: String,
    /// The private key: whoever has it is believed.
    pub key: String,
}

impl Authority {
    /// A new one, for ten years.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn draw(name: &str) -> Result<Self, Error> {
        let mut params = params(name, &[], &(-1..3650))?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        Ok(Self { issuer })
    }

    /// What others need to believe it, in PEM form.
    #[must_use]
    pub fn cert(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for somebody who is reached at these hosts (names or addresses; none for a mere
    /// client), good on these days, counted from today.
    ///
    /// # Errors
    /// A host is no name, or the system has no randomness.
    pub fn issue(&self, name: &str, hosts: &[String], days: &Range<i64>) -> Result<Issued, Error> {
        let mut params = params(name, hosts, days)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        if !hosts.is_empty() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let key = KeyPair::generate()?;
        let cert = params.signed_by(&key, &self.issuer)?;
        Ok(Issued { cert: cert.pem(), key: key.serialize_pem() })
    }
}

fn params(name: &str, hosts: &[String], days: &Range<i64>) -> Result<CertificateParams, Error> {
    // An address is written as it is found in a URL: without the brackets.
    let plain = |host: &String| {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        bare.parse::<IpAddr>().map_or_else(|_| host.clone(), |address| address.to_string())
    };
    let mut params = CertificateParams::new(hosts.iter().map(plain).collect::<Vec<_>>())?;
    params.distinguished_name.push(DnType::CommonName, name);
    let days_since_1970 = today();
    let day = |offset: i64| {
        let days = u32::try_from(days_since_1970.saturating_add(offset)).unwrap_or(0);
        date_time_ymd(1970, 1, 1) + DAY * days
    };
    params.not_before = day(days.start);
    params.not_after = day(days.end);
    Ok(params)
}

/// Days since 1970.
#[expect(clippy::disallowed_types, reason = "a certificate is good on certain dates")]
fn today() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    let seconds = now.map_or(0, |since| since.as_secs());
    i64::try_from(seconds / DAY.as_secs()).unwrap_or(i64::MAX)
}
