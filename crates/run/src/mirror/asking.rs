//! How a request travels through a mirror: with the run that it is about, and the last record that whoever asks had
//! seen, so that what was meant for an earlier turn of the run is not carried out in a later one.

use super::{Mirror, MirrorError};
use crate::ids::{RequestId, RunId};
use crate::requests::Request;
use lifeboat_evidence::canonical;
use serde::{Deserialize, Serialize};

/// A request as it lies in a mirror.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeftRequest {
    /// The run that it is about.
    pub run: RunId,
    /// The number of the last record that whoever asks had seen.
    pub seen: u64,
    /// What is asked for.
    pub request: Request,
}

impl LeftRequest {
    /// Leaves it. After an error it may be left again under the same identity, and stays one.
    ///
    /// # Errors
    /// Where it is too long, or it cannot be told whether it is there.
    pub fn leave(&self, mirror: &dyn Mirror, id: &RequestId) -> Result<(), MirrorError> {
        let failed =
            |error: Box<dyn std::error::Error + Send + Sync>| MirrorError::new("leave a request", error);
        let value = serde_json::to_value(self).map_err(|error| failed(error.into()))?;
        let bytes = canonical::to_bytes(&value).map_err(|error| failed(error.into()))?;
        mirror.leave(&self.run, id, &bytes)
    }

    /// Reads what lies there.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self, String> {
        let value = canonical::parse(bytes).map_err(|error| lifeboat_base::report(&error))?;
        Self::deserialize(value).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Left, MemoryMirror};
    use super::*;

    #[test]
    fn a_request_is_read_as_it_was_left_and_nonsense_is_named() {
        let mirror = MemoryMirror::new();
        let (run, id) = ("r".parse::<RunId>().unwrap(), RequestId([7; 16]));
        let request = Request::Pause { by: "ann".to_owned(), reason: "wait".to_owned() };
        let left = LeftRequest { run: run.clone(), seen: 3, request };
        left.leave(&mirror, &id).unwrap();
        left.leave(&mirror, &id).unwrap();
        let Some(Left::Bytes { bytes, .. }) = mirror.request(&run, &id).unwrap() else {
            panic!("it is there")
        };
        let text = r#"{"request":{"ask":"pause","by":"ann","reason":"wait"},"run":"r","seen":3}"#;
        assert_eq!(String::from_utf8(bytes.clone()).unwrap(), text);
        assert_eq!(LeftRequest::read(&bytes), Ok(left));
        for nonsense in ["", "{}", r#"{"ask":"pause"}"#, &text.replace("3}", "3,\"more\":1}"), &text[1..]] {
            assert!(LeftRequest::read(nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }
}
