//! How a webhook's receiver knows who sent a message, and when: `Lifeboat-Signature: t=1800000000,v1=HEX`.
//!
//! HEX is HMAC-SHA256 under the shared secret over the decimal seconds, a full stop, and the body. The time is signed
//! too, so that an old message cannot be sent again later.

use aws_lc_rs::hmac;
use lifeboat_base::clock::Timestamp;
use lifeboat_base::{Secret, hex};
use std::time::Duration;

/// The header's name.
pub const HEADER: &str = "Lifeboat-Signature";

/// Why a signature is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is not of the form `t=SECONDS,v1=HEX`.
    #[error("the signature is not of the form t=SECONDS,v1=HEX")]
    Malformed,
    /// It was signed too long ago, or in the future.
    #[error("the signature is of another time")]
    OtherTime,
    /// The secret is another one, or the body was changed.
    #[error("the signature does not fit secret and body")]
    DoesNotFit,
}

/// The header's value for a body that is sent now.
pub fn sign(secret: &Secret, body: &[u8], now: Timestamp) -> String {
    let seconds = now.as_secs();
    let tag = hmac::sign(&key(secret), &signed(seconds, body));
    format!("t={seconds},v1={}", hex::encode(tag.as_ref()))
}

/// Whether a header's value was made by a holder of the secret for this body, no longer than `within` ago.
///
/// # Errors
/// Where it was not.
pub fn verify(
    secret: &Secret,
    header: &str,
    body: &[u8],
    now: Timestamp,
    within: Duration,
) -> Result<(), SignatureError> {
    let (seconds, tag) = parse(header).ok_or(SignatureError::Malformed)?;
    hmac::verify(&key(secret), &signed(seconds, body), &tag).map_err(|_| SignatureError::DoesNotFit)?;
    let at = Timestamp::from_secs(seconds);
    let is_near = now.since(at) <= within && at.since(now) <= within;
    if is_near { Ok(()) } else { Err(SignatureError::OtherTime) }
}

fn parse(header: &str) -> Option<(i64, [u8; 32])> {
    let (seconds, tag) = header.strip_prefix("t=")?.split_once(",v1=")?;
    Some((seconds.parse().ok()?, hex::decode(tag)?))
}

fn key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose())
}

fn signed(seconds: i64, body: &[u8]) -> Vec<u8> {
    [format!("{seconds}.").as_bytes(), body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
    const WITHIN: Duration = Duration::from_secs(300);

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn a_signature_is_as_documented() {
        // printf '1800000000.{}' | openssl dgst -sha256 -hmac whsec
        let header = "t=1800000000,v1=77b7eef0d31630eb2979f9c5a7773983688ccf849f9d5a79d0a01c0a8bbaffa0";
        assert_eq!(sign(&secret("whsec"), b"{}", NOW), header);
    }

    #[test]
    fn only_the_same_secret_body_and_time_fit() {
        let header = sign(&secret("s"), b"body", NOW);
        let check =
            |with: &str, header: &str, body: &[u8], now| verify(&secret(with), header, body, now, WITHIN);
        assert_eq!(check("s", &header, b"body", NOW.plus(WITHIN)), Ok(()));
        assert_eq!(check("other", &header, b"body", NOW), Err(SignatureError::DoesNotFit));
        assert_eq!(check("s", &header, b"Body", NOW), Err(SignatureError::DoesNotFit));
        for now in [NOW.plus(WITHIN * 2), NOW.minus(WITHIN * 2)] {
            assert_eq!(check("s", &header, b"body", now), Err(SignatureError::OtherTime));
        }
        let later = header.replace("t=1800000000", "t=1800000500");
        assert_eq!(check("s", &later, b"body", NOW), Err(SignatureError::DoesNotFit));
        for bad in ["", "t=1", "t=x,v1=00", "v1=00,t=1", "t=1800000000,v1=00"] {
            assert_eq!(check("s", bad, b"body", NOW), Err(SignatureError::Malformed), "{bad}");
        }
    }
}
