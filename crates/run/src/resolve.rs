//! A block with its values: exactly what is carried out, its SHA-256, and how it may be shown.

use crate::event::{Begun, Given};
use crate::secrets::Secrets;
use lifeboat_base::Secret;
use lifeboat_evidence::{Digest, canonical};
use lifeboat_runbook::{Source, Step, StepId, template};
use serde_json::json;
use std::collections::BTreeMap;

/// A value that is passed to a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// One that may be shown.
    Plain(String),
    /// One that may not.
    Secret {
        /// Where it is.
        reference: String,
        /// What it is.
        secret: Secret,
    },
}

impl Value {
    /// The value itself, as text.
    ///
    /// # Errors
    /// Where a secret is no UTF-8.
    pub fn expose(&self) -> Result<&str, String> {
        match self {
            Self::Plain(text) => Ok(text),
            Self::Secret { reference, secret } => std::str::from_utf8(secret.expose())
                .map_err(|_| format!("the secret {reference} is no UTF-8")),
        }
    }
}

/// A block with its values.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The block.
    pub block: StepId,
    /// What is passed to it.
    pub values: BTreeMap<String, Value>,
    /// SHA-256 of the action and its values, secrets by their references: what an intent names and an approval binds.
    pub hash: Digest,
}

/// Where values are looked up.
pub(crate) struct Lookup<'a> {
    pub(crate) begun: &'a Begun,
    pub(crate) output: &'a dyn Fn(&StepId, &str) -> Option<String>,
    pub(crate) secrets: &'a dyn Secrets,
}

impl Lookup<'_> {
    /// A value that may be shown, by its source.
    pub(crate) fn plain(&self, source: &Source) -> Result<String, String> {
        match self.value(source)? {
            Value::Plain(text) => Ok(text),
            Value::Secret { reference, .. } => {
                Err(format!("{reference} is a secret, which is shown to nobody"))
            }
        }
    }

    fn value(&self, source: &Source) -> Result<Value, String> {
        match source {
            Source::Input(name) => match self.begun.inputs.get(name) {
                Some(Given::Value(text)) => Ok(Value::Plain(text.clone())),
                Some(Given::Secret(reference)) => self.secret(reference),
                None => Err(format!("the run has no input {name}")),
            },
            Source::Output { step, name } => {
                let value = (self.output)(step, name);
                value.map(Value::Plain).ok_or_else(|| format!("{step} left no {name}"))
            }
        }
    }

    fn secret(&self, reference: &str) -> Result<Value, String> {
        let secret =
            self.secrets.get(reference).map_err(|why| format!("read the secret {reference}: {why}"))?;
        Ok(Value::Secret { reference: reference.to_owned(), secret })
    }

    /// Every secret of the run that can be had, to be masked wherever it shows.
    pub(crate) fn all_secrets(&self) -> Vec<Secret> {
        let references = self.begun.inputs.values().filter_map(|given| match given {
            Given::Secret(reference) => Some(reference),
            Given::Value(_) => None,
        });
        references.filter_map(|reference| self.secrets.get(reference).ok()).collect()
    }

    /// A block with its values.
    ///
    /// # Errors
    /// Which value there is not.
    pub(crate) fn resolve(&self, block: &Step) -> Result<Resolved, String> {
        let mut values = BTreeMap::new();
        for passed in &block.passed {
            values.insert(passed.name.clone(), self.value(&passed.source)?);
        }
        let hash = hash(block, &values)?;
        Ok(Resolved { block: block.id.clone(), values, hash })
    }
}

fn hash(block: &Step, values: &BTreeMap<String, Value>) -> Result<Digest, String> {
    let shown: BTreeMap<&String, serde_json::Value> = values
        .iter()
        .map(|(name, value)| match value {
            Value::Plain(text) => (name, json!({ "value": text })),
            Value::Secret { reference, .. } => (name, json!({ "secret": reference })),
        })
        .collect();
    let text = json!({ "block": block.id, "action": block.action, "values": shown, "expect": block.expect });
    let bytes = canonical::to_bytes(&text).map_err(|error| error.to_string())?;
    Ok(Digest::of(&bytes))
}

/// Puts values where `${name}` stands for them.
///
/// # Errors
/// Where a name has no value.
pub fn fill(text: &str, values: &BTreeMap<String, Value>) -> Result<String, String> {
    for reference in template::references(text) {
        let value = values.get(&reference.name);
        value.ok_or_else(|| format!("${{{}}} is not passed", reference.name))?.expose()?;
    }
    let value = |name: &str| values.get(name).and_then(|value| value.expose().ok()).map(str::to_owned);
    template::fill(text, value).map_err(|name| format!("${{{name}}} is not passed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_filled_in_once() {
        let plain = |text: &str| Value::Plain(text.to_owned());
        let values =
            BTreeMap::from([("host".to_owned(), plain("${port}")), ("port".to_owned(), plain("80"))]);
        assert_eq!(fill("http://${host}:${port}/$x", &values).unwrap(), "http://${port}:80/$x");
        assert_eq!(fill("${gone}", &values).unwrap_err(), "${gone} is not passed");
    }
}
