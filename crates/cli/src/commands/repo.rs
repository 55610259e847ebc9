//! `lifeboat repo`: making a repository, and the writers that it trusts.

use crate::args::{RepoCommand, WritersCommand};
use crate::commands::keep::by_digits;
use crate::commands::key::recovery_text;
use crate::context::{Context, dataset_name, host_name};
use crate::failure::{Failure, Outcome};
use crate::recording;
use crate::secret::read_secret;
use lifeboat_base::{Secret, hex};
use lifeboat_evidence::Action;
use lifeboat_objects::location::{self, Location};
use lifeboat_objects::suitability;
use lifeboat_repository::ids::WriterId;
use lifeboat_repository::{
    InitOptions, Lock, PublicKey, RecoveryKey, Repository, Role, Unlock, new_recovery_lock,
};
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;

pub(crate) fn run(context: &Context, command: &RepoCommand) -> Result<Outcome, Failure> {
    match command {
        RepoCommand::Init { no_recovery_key, copy_of, origin_key, lease, grace } => {
            let options = InitOptions { lease: *lease, grace: *grace, ..InitOptions::default() };
            let origin = copy_of.as_deref().map(|location| (location, origin_key.as_str()));
            init(context, !no_recovery_key, origin, &options)
        }
        RepoCommand::Writers(WritersCommand::List) => list(context),
        RepoCommand::Writers(WritersCommand::Enrol { public_key, name, no_maintain, dataset }) => {
            enrol(context, public_key.as_deref(), name.as_deref(), !no_maintain, dataset)
        }
        RepoCommand::Writers(WritersCommand::Revoke { writer }) => revoke(context, writer),
    }
}

fn init(
    context: &Context,
    with_recovery: bool,
    origin: Option<(&str, &str)>,
    options: &InitOptions,
) -> Result<Outcome, Failure> {
    let place = context.location()?;
    let secret = context.secret()?;
    let origin = origin
        .map(|(location, key)| context.open_at(&Location::parse(location)?, &read_secret(key)?))
        .transpose()?;
    let store = location::create(&place)?;
    suitability(&*store)?;
    let mut locks = vec![(Lock::Passphrase(secret), "made with the repository".to_owned())];
    let recovery = with_recovery.then(|| {
        let (lock, key) = new_recovery_lock();
        locks.push((lock, "recovery key".to_owned()));
        key
    });
    let environment = context.environment()?;
    let repository = match &origin {
        Some(origin) => Repository::init_copy(store.clone(), origin, &locks, options, environment)?,
        None => Repository::init(store.clone(), &locks, options, environment)?,
    };
    if let Some(key) = &recovery {
        try_recovery(context, &repository, key)?;
    }
    repository.writer()?;
    let repository = Arc::new(repository);
    context.opened(&repository);
    context.did(recording::changed(Action::KeyChange, "repository made", repository.id()));
    say_made(context, &place, &repository, recovery.as_ref())?;
    Ok(Outcome::Done)
}

/// The recovery key is tried before anybody relies on it.
fn try_recovery(context: &Context, repository: &Repository, key: &RecoveryKey) -> Result<(), Failure> {
    let unlock = Unlock::Passphrase(Secret::new(key.to_text().as_bytes().to_vec()));
    Repository::open(repository.store().clone(), &unlock, context.environment()?)?;
    Ok(())
}

fn say_made(
    context: &Context,
    place: &Location,
    repository: &Repository,
    recovery: Option<&RecoveryKey>,
) -> Result<(), Failure> {
    let id = repository.config().repository;
    context.output.result(
        || json!({ "repository": id.to_string(), "location": place.to_string(), "root": repository.root_fingerprint().to_string(), "recovery_key": recovery.map(|key| json!(*key.to_text())) }),
        |text| {
            writeln!(text, "made repository {id} at {place}")?;
            writeln!(text, "root key fingerprint {}", repository.root_fingerprint())?;
            match recovery {
                Some(key) => write!(text, "{}", recovery_text(key)),
                None => writeln!(text, "no recovery key was made: without its passphrase nobody can open this repository"),
            }
        },
    )
}

fn list(context: &Context) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let writers = repository.writers();
    let role = |role: Role| match role {
        Role::Write => "write",
        Role::WriteOnly => "write-only",
        Role::Maintain => "maintain",
    };
    context.output.result(
        || {
            let list: Vec<Value> = writers
                .iter()
                .map(|w| json!({ "writer": w.public.id().to_string(), "public_key": hex::encode(&w.public.0), "name": w.name, "role": role(w.role), "datasets": w.datasets.iter().map(|d| d.as_str()).collect::<Vec<_>>(), "enrolled": w.enrolled.to_string(), "revoked": w.revoked.map(|t| t.to_string()) }))
                .collect();
            json!({ "writers": list })
        },
        |text| {
            for w in &writers {
                let datasets = if w.datasets.is_empty() { "every dataset".to_owned() } else { w.datasets.iter().map(|d| d.as_str()).collect::<Vec<_>>().join(", ") };
                let revoked = w.revoked.map_or(String::new(), |at| format!("  revoked {at}"));
                writeln!(text, "{}  {:<8}  {}  {datasets}  enrolled {}{revoked}", w.public.id(), role(w.role), w.name, w.enrolled)?;
            }
            Ok(())
        },
    )?;
    Ok(Outcome::Done)
}

fn enrol(
    context: &Context,
    public_key: Option<&str>,
    name: Option<&str>,
    maintain: bool,
    datasets: &[String],
) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let public = match public_key {
        Some(digits) => PublicKey(hex::decode(digits).ok_or_else(|| {
            Failure::usage(
                "the public key is not 64 hexadecimal digits",
                "`lifeboat repo writers list --json` on a machine that is enrolled shows its own.",
            )
        })?),
        None => repository.writer()?.public(),
    };
    let datasets = datasets.iter().map(|name| dataset_name(name)).collect::<Result<_, _>>()?;
    let role = if maintain { Role::Maintain } else { Role::Write };
    repository.enrol(public, name.unwrap_or(&host_name()), role, datasets)?;
    context.did(recording::changed(Action::WriterChange, "enrolled", public.id()));
    context.output.result(
        || json!({ "enrolled": public.id().to_string() }),
        |text| writeln!(text, "enrolled: writer {}", public.id()),
    )?;
    Ok(Outcome::Done)
}

fn revoke(context: &Context, digits: &str) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let ids: Vec<WriterId> = repository.writers().iter().map(|w| w.public.id()).collect();
    let id = by_digits(&ids, digits, "writer")?;
    repository.revoke(&id)?;
    context.did(recording::changed(Action::WriterChange, "revoked", id));
    context.output.result(
        || json!({ "revoked": id.to_string() }),
        |text| {
            writeln!(text, "revoked: writer {id}; what the store received from it before now still counts")
        },
    )?;
    Ok(Outcome::Done)
}
