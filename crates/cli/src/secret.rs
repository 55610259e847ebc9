//! Secrets, read from where they are the moment before they are used: the environment, a file, what a command prints,
//! a field of Vault. None is ever taken from the command line, and none is repeated in an error.

use crate::failure::Failure;
use lifeboat_base::Secret;
use lifeboat_plan::SecretRef;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};

/// Reads a secret from where its source says. The line's end is not part of it.
pub(crate) fn read_secret(source: &str) -> Result<Secret, Failure> {
    // What was written may be the secret itself: it is not repeated.
    let reference = SecretRef::try_from(source.to_owned()).map_err(|_| {
        Failure::usage(
            "a secret was given where its source belongs",
            "Write env:NAME, file:PATH, command:COMMAND or vault:PATH#FIELD; a secret on the command line is seen by everybody on the machine.",
        )
    })?;
    let bytes = match &reference {
        SecretRef::Env(name) => std::env::var_os(name).map(OsStringExt::into_vec).ok_or_else(|| {
            Failure::usage(
                format!("the environment variable {name} is not set"),
                format!(
                    "Set {name}, or say env:NAME, file:PATH, command:COMMAND or vault:PATH#FIELD instead."
                ),
            )
        })?,
        SecretRef::File(path) => std::fs::read(path).map_err(|error| {
            Failure::usage(
                format!("read the secret from {path}: {error}"),
                "Check the path and its permissions.",
            )
        })?,
        SecretRef::Command(command) => output_of(Command::new("/bin/sh").args(["-c", command]), "/bin/sh")?,
        SecretRef::Vault { path, field } => in_vault(path, field)?,
    };
    let end = bytes.iter().rposition(|b| !matches!(b, b'\n' | b'\r')).map_or(0, |at| at + 1);
    if end == 0 {
        return Err(Failure::usage(
            format!("the secret from {} is empty", place(&reference)),
            "Check where it comes from.",
        ));
    }
    Ok(Secret::new(bytes[..end].to_vec()))
}

/// A command may have anything in it.
fn place(reference: &SecretRef) -> String {
    match reference {
        SecretRef::Command(_) => "command:…".to_owned(),
        other => other.to_string(),
    }
}

/// By Vault's own client, which knows the server, its certificate, the namespace, the token and the version of the
/// engine (`VAULT_ADDR` and its other variables). No secret is among its arguments.
fn in_vault(path: &str, field: &str) -> Result<Vec<u8>, Failure> {
    let field = format!("-field={field}");
    output_of(Command::new("vault").args(["kv", "get", &field, "--", path]), "vault")
}

fn output_of(command: &mut Command, program: &str) -> Result<Vec<u8>, Failure> {
    let hint = "Run the command by hand; it must print the secret on stdout and exit with 0.";
    match command.stdin(Stdio::null()).stderr(Stdio::inherit()).output() {
        Ok(output) if output.status.success() => Ok(output.stdout),
        Ok(output) => {
            Err(Failure::usage(format!("the command for the secret ended with {}", output.status), hint))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Err(Failure::usage(
            format!("{program} is not installed here, or not in PATH"),
            "Install it, or say env:NAME, file:PATH or command:COMMAND instead.",
        )),
        Err(error) => Err(Failure::usage(format!("the command for the secret did not start: {error}"), hint)),
    }
}

/// Where the secrets of runs are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Anywhere;

impl lifeboat_run::Secrets for Anywhere {
    fn get(&self, reference: &str) -> Result<Secret, String> {
        read_secret(reference).map_err(|failure| failure.message)
    }
}
