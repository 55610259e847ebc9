//! Secrets by reference: the plan says where one is, and never what it is.

use crate::text::text_schema;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub enum SecretRef {
    /// In an environment variable.
    Env(String),
    /// In a file.
    File(String),
    /// In what a command writes on its standard output.
    Command(String),
    /// In a field of Vault.
    Vault {
        /// The path.
        path: String,
        /// The field.
        field: String,
    },
}

impl TryFrom<String> for SecretRef {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        // What was written is not repeated: it may be the secret itself.
        let wrong = || {
            "a secret is named, never written here: say env:NAME, file:PATH, command:PROGRAM or vault:PATH#FIELD"
                .to_owned()
        };
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        if rest.is_empty() {
            return Err(wrong());
        }
        match scheme {
            "env" => Ok(Self::Env(rest.to_owned())),
            "file" => Ok(Self::File(rest.to_owned())),
            "command" => Ok(Self::Command(rest.to_owned())),
            "vault" => match rest.split_once('#') {
                Some((path, field)) if !path.is_empty() && !field.is_empty() => {
                    Ok(Self::Vault { path: path.to_owned(), field: field.to_owned() })
                }
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for SecretRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
            Self::Command(command) => write!(f, "command:{command}"),
            Self::Vault { path, field } => write!(f, "vault:{path}#{field}"),
        }
    }
}

impl From<SecretRef> for String {
    fn from(reference: SecretRef) -> Self {
        reference.to_string()
    }
}

text_schema!(
    SecretRef,
    "SecretRef",
    r"^(env:.+|file:.+|command:.+|vault:[^#]+#.+)$",
    "Where a secret is: env:NAME, file:PATH, command:PROGRAM or vault:PATH#FIELD."
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_named_and_never_repeated() {
        for text in ["env:X", "file:/a/b", "command:pass show x", "vault:secret/a#key"] {
            assert_eq!(SecretRef::try_from(text.to_owned()).unwrap().to_string(), text);
        }
        for text in ["hunter2", "env:", "vault:a", "vault:#b", "pw:hunter2"] {
            let error = SecretRef::try_from(text.to_owned()).unwrap_err();
            assert!(!error.contains("hunter2") && error.contains("env:NAME"), "{error}");
        }
    }
}
