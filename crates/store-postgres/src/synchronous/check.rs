//! Whether synchronous mode can be had here: asked before anything is begun, so that nothing hangs later.

use super::names::SynchronousNames;
use super::server::{RoleFacts, Server, Shown};
use super::{Result, SynchronousError};
use lifeboat_wire_postgres::ConnectOptions;

/// The longest name that a server reports of a session, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// How synchronous mode will stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynchronousStanding {
    /// Our name in `synchronous_standby_names`: the follower's `application_name`.
    pub name: String,
    /// Whom commits wait for now.
    pub names: SynchronousNames,
    /// Whether our name is among them already. Where not, it is put there once the follower has caught up.
    pub listed: bool,
    /// What a person should know: commits that others may acknowledge in our place, commits that do not wait.
    pub notes: Vec<String>,
}

/// Asks whether the server would wait for a standby of the options' `application_name`, and whether we could end that
/// at any time.
///
/// # Errors
/// Where a privilege is missing (the hint has the `GRANT`s), the server is a standby, the name cannot be a standby's,
/// or the list cannot be changed.
pub fn check_synchronous(server: &ConnectOptions) -> Result<SynchronousStanding> {
    let name = server.application_name().to_owned();
    refuse_name(&name)?;
    let mut session = Server::open(server, &name)?;
    refuse_privileges(session.facts()?)?;
    let shown = session.look()?;
    refuse_unchangeable(&shown)?;
    let commit = session.synchronous_commit()?;
    if commit == "remote_apply" {
        return Err(SynchronousError::RemoteApply);
    }
    let names = SynchronousNames::parse(&shown.list.names)?;
    let listed = names.lists(&name);
    // Tried now, so that it does not fail when it is needed.
    let with = if listed { names.clone() } else { names.with(&name)? };
    with.without(&name)?;
    Ok(SynchronousStanding { notes: notes(&with, &name, &commit), name, names, listed })
}

/// A name that the server would cut or change is not found in the list again.
pub(crate) fn refuse_name(name: &str) -> Result<()> {
    let printable = name.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic());
    match (1..=MAX_NAME_BYTES).contains(&name.len()) && printable && name != "*" {
        true => Ok(()),
        false => Err(SynchronousError::Name { name: name.to_owned() }),
    }
}

fn refuse_unchangeable(shown: &Shown) -> Result<()> {
    match shown.changeable {
        true => Ok(()),
        false => Err(SynchronousError::NotChangeable { why: "it is on the server's command line" }),
    }
}

fn refuse_privileges(facts: RoleFacts) -> Result<()> {
    if !facts.allow_alter_system {
        return Err(SynchronousError::NotChangeable { why: "allow_alter_system is off" });
    }
    let to = &facts.quoted_role;
    let needed = [
        (
            facts.may_alter,
            "change synchronous_standby_names",
            format!("GRANT ALTER SYSTEM ON PARAMETER synchronous_standby_names TO {to};"),
        ),
        (
            facts.may_reload,
            "let the server read its settings",
            format!("GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO {to};"),
        ),
        (facts.may_see, "see which commits wait", format!("GRANT pg_monitor TO {to};")),
    ];
    let (missing, grants): (Vec<_>, Vec<_>) =
        needed.into_iter().filter(|(may, ..)| !may).map(|(_, what, grant)| (what, grant)).unzip();
    match grants.is_empty() {
        true => Ok(()),
        false => {
            Err(SynchronousError::Privileges { role: facts.role, missing: missing.join(", nor "), grants })
        }
    }
}

fn notes(names: &SynchronousNames, name: &str, commit: &str) -> Vec<String> {
    let mut notes = Vec::new();
    if !names.always_awaits(name) {
        notes.push(format!(
            "with synchronous_standby_names = {names} others may acknowledge a commit in our place: what they have and we have not is lost with them"
        ));
    }
    if matches!(commit, "off" | "local") {
        notes.push(format!(
            "synchronous_commit is {commit}: only commits of sessions that set it to on wait for any standby"
        ));
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_base::Hint;

    #[test]
    fn the_hint_has_exactly_the_grants_that_are_missing() {
        let facts = RoleFacts {
            role: "Life Boat".to_owned(),
            quoted_role: "\"Life Boat\"".to_owned(),
            may_alter: true,
            may_reload: false,
            may_see: false,
            allow_alter_system: true,
        };
        let error = refuse_privileges(facts.clone()).unwrap_err();
        assert_eq!(
            error.hint().unwrap(),
            "As a superuser run: GRANT EXECUTE ON FUNCTION pg_catalog.pg_reload_conf() TO \"Life Boat\"; GRANT pg_monitor TO \"Life Boat\";"
        );
        assert!(refuse_privileges(RoleFacts { may_reload: true, may_see: true, ..facts.clone() }).is_ok());
        let off = refuse_privileges(RoleFacts { allow_alter_system: false, ..facts });
        assert!(matches!(off, Err(SynchronousError::NotChangeable { .. })));
    }

    #[test]
    fn names_that_a_server_would_change_are_refused() {
        assert!(refuse_name("lifeboat eu-1").is_ok());
        for bad in ["", "*", "größe", "a\nb", &"x".repeat(64)] {
            assert!(refuse_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_the_promise_does_not_hold_for_is_said() {
        let notes_of =
            |list: &str, commit| notes(&SynchronousNames::parse(list).unwrap(), "lifeboat", commit);
        assert!(notes_of("FIRST 2 (lifeboat, a)", "on").is_empty());
        assert_eq!(notes_of("ANY 1 (lifeboat, a)", "local").len(), 2);
    }
}
