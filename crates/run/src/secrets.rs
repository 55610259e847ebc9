//! Where secrets are read, the moment before they are used.

use lifeboat_base::Secret;
use lifeboat_plan::SecretRef;

/// Reads secrets by their references.
pub trait Secrets: Send + Sync {
    /// The secret of a reference (`env:NAME`, `file:PATH`).
    ///
    /// # Errors
    /// Why it cannot be had, without any part of it.
    fn get(&self, reference: &str) -> Result<Secret, String>;
}

/// Secrets in the environment and in files.
#[derive(Clone, Copy, Debug, Default)]
pub struct EnvironmentAndFiles;

impl Secrets for EnvironmentAndFiles {
    fn get(&self, reference: &str) -> Result<Secret, String> {
        match SecretRef::try_from(reference.to_owned())? {
            SecretRef::Env(name) => std::env::var_os(&name)
                .map(|value| Secret::new(value.into_encoded_bytes()))
                .ok_or_else(|| format!("{name} is not set")),
            SecretRef::File(path) => {
                let mut bytes = std::fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
                // A file ends with a newline that is not part of what it holds.
                if bytes.last() == Some(&b'\n') {
                    bytes.pop();
                }
                Ok(Secret::new(bytes))
            }
            other => Err(format!("{other} is read by whoever starts the run, not here")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_without_its_last_newline() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::io::Write::write_all(&mut file.as_file(), b"hunter2\n").unwrap();
        let secret = EnvironmentAndFiles.get(&format!("file:{}", file.path().display())).unwrap();
        assert_eq!(secret.expose(), b"hunter2");
        assert!(EnvironmentAndFiles.get("env:LIFEBOAT_TEST_NOT_SET").unwrap_err().contains("not set"));
        assert!(!EnvironmentAndFiles.get("hunter2").unwrap_err().contains("hunter2"));
    }
}
