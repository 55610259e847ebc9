//! Secrets by reference: from a command and from Vault, whose client is stood in for by a program that writes down how
//! it was called.

use crate::place::{PASSPHRASE, Place, Ran};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

const VAULT: &str = r#"#!/bin/sh
echo "$*" >> "$VAULT_CALLS"
[ "$4" = -- ] || exit 9
case "$3 $5" in
"-field=passphrase secret/lifeboat") printf '%s\n' "$VAULT_HAS" ;;
*) echo "No value found at $5" >&2; exit 2 ;;
esac
"#;

/// A place with a program called `vault` before all others.
fn with_vault() -> Place {
    let place = Place::new();
    place.write("bin/vault", VAULT);
    std::fs::set_permissions(place.path("bin/vault"), Permissions::from_mode(0o755)).unwrap();
    place
}

fn run(place: &Place, key: &str, arguments: &[&str]) -> Ran {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = place.command(arguments);
    command
        .env("PATH", format!("{}:{path}", place.path("bin").display()))
        .env("VAULT_CALLS", place.path("calls"))
        .env("VAULT_HAS", PASSPHRASE)
        .env("LIFEBOAT_KEY", key);
    Ran::of(&mut command)
}

#[test]
fn a_repository_is_opened_with_what_vault_has() {
    let place = with_vault();
    run(&place, "vault:secret/lifeboat#passphrase", &["points"]).expect(0);
    let calls = std::fs::read_to_string(place.path("calls")).unwrap();
    assert_eq!(calls, "kv get -field=passphrase -- secret/lifeboat\n");
    let missing = run(&place, "vault:secret/lifeboat#other", &["points"]);
    missing.refused(2, "the command for the secret ended with exit status: 2", "Run the command by hand");
    let mut command = place.command(&["points"]);
    command.env("LIFEBOAT_KEY", "vault:secret/lifeboat#passphrase").env("PATH", place.path("empty"));
    Ran::of(&mut command).refused(2, "vault is not installed here, or not in PATH", "command:COMMAND");
}

/// A run reads them where they are needed, and they stand neither in its journal nor in what it prints.
#[test]
fn a_run_reads_its_secrets_from_commands_and_from_vault() {
    let place = with_vault();
    let runbook = r#"---
inputs:
  password: { type: secret }
  token: { type: secret, default: "command:printf '%s' \"$VAULT_HAS\" | tr a-z A-Z" }
---
# Log in

```bash {step=log-in pass=password,token repeat=safe undo=none why="nothing is changed" timeout=1m}
[ "$password" = "$VAULT_HAS" ] && [ "$token" = "$(printf '%s' "$VAULT_HAS" | tr a-z A-Z)" ]
echo "with $password and $token"
```
"#;
    place.write("log-in.md", runbook);
    let input = "password=vault:secret/lifeboat#passphrase";
    let passphrase = "env:LIFEBOAT_PASSPHRASE";
    let looked =
        run(&place, passphrase, &["runbook", "run", "log-in.md", "-i", input, "--dry-run"]).expect(0);
    let ran = run(&place, passphrase, &["runbook", "run", "log-in.md", "-i", input, "--by", "ann", "--json"])
        .expect(0);
    let run = place.json(&["runbook", "list"])[0]["run"].as_str().unwrap().to_owned();
    let kept = std::process::Command::new("grep")
        .args(["-rl", "-i", PASSPHRASE])
        .arg(place.path("state/runs").join(&run))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&kept.stdout), "", "it is kept nowhere");
    for said in [looked, ran] {
        let said = (said.stdout + &said.stderr).to_lowercase();
        assert!(!said.contains(PASSPHRASE), "{said}");
    }
}
