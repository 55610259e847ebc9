//! `lifeboat key`: the slots that open the repository.

use crate::args::{KeyCommand, LockArgs};
use crate::commands::keep::by_digits;
use crate::context::{Context, PRIVATE_PREFIX};
use crate::failure::{Failure, Outcome};
use crate::recording;
use crate::secret::read_secret;
use lifeboat_base::crashsafe::{self, Creation};
use lifeboat_base::{Secret, hex};
use lifeboat_evidence::Action;
use lifeboat_repository::ids::TicketId;
use lifeboat_repository::{
    EpochPrivateKey, EpochPublicKey, Lock, RecoveryKey, Repository, SlotInfo, Unlock, new_recovery_lock,
};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;

pub(crate) fn run(context: &Context, command: &KeyCommand) -> Result<Outcome, Failure> {
    match command {
        KeyCommand::Pair { file } => pair(context, file),
        KeyCommand::List => list(context),
        KeyCommand::Add { lock, admin, label } => add(context, lock, *admin, label),
        KeyCommand::Rotate { lock, label } => rotate(context, lock, label),
        KeyCommand::Retire { slot } => retire(context, slot),
    }
}

fn list(context: &Context) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let (slots, opened) = (repository.slots(), repository.opened_slot());
    context.output.result(
        || json!({ "root": repository.root_fingerprint().to_string(), "slots": slots.iter().map(|slot| slot_json(slot, opened)).collect::<Vec<_>>() }),
        |text| {
            for slot in &slots {
                let role = if slot.admin { "admin" } else { "plain" };
                let mark = if opened == Some(slot.id) { "  (opened this)" } else { "" };
                writeln!(text, "{}  {:<10}  {role}  {}  {}{mark}", &slot.id.to_string()[..8], slot.kind, slot.created, slot.label)?;
            }
            writeln!(text, "root key fingerprint {}", repository.root_fingerprint())
        },
    )?;
    Ok(Outcome::Done)
}

fn slot_json(slot: &SlotInfo, opened: Option<TicketId>) -> Value {
    json!({ "slot": slot.id.to_string(), "kind": slot.kind, "admin": slot.admin, "label": slot.label, "created": slot.created.to_string(), "opened_this": opened == Some(slot.id) })
}

/// How a slot is to be locked, and the recovery key where one was made for it.
pub(crate) fn lock_of(args: &LockArgs) -> Result<(Lock, Option<RecoveryKey>), Failure> {
    if let Some(source) = &args.passphrase {
        return Ok((Lock::Passphrase(read_secret(source)?), None));
    }
    if let Some(command) = &args.command {
        let secret = read_secret(&format!("command:{command}"))?;
        if secret.expose().len() < 16 {
            return Err(Failure::usage(
                "the command printed fewer than 16 bytes",
                "A command's secret must be random: at least 16 bytes. For a passphrase use --passphrase command:…",
            ));
        }
        return Ok((Lock::Command(secret), None));
    }
    if let Some(digits) = &args.public_key {
        let public = hex::decode::<32>(digits).ok_or_else(|| {
            Failure::usage(
                "the public key is not 64 hexadecimal digits",
                "It is what `lifeboat key pair FILE` printed.",
            )
        })?;
        return Ok((Lock::PublicKey(EpochPublicKey(public)), None));
    }
    let (lock, key) = new_recovery_lock();
    Ok((lock, Some(key)))
}

/// Adds a slot and opens the repository with it, so that nobody relies on a slot that does not open.
fn add_and_try(
    context: &Context,
    repository: &Repository,
    lock: &Lock,
    recovery: Option<&RecoveryKey>,
    label: &str,
    admin: bool,
) -> Result<SlotInfo, Failure> {
    let slot = repository.add_slot(lock, label, admin)?;
    let unlock = match (lock, recovery) {
        (_, Some(key)) => Unlock::Passphrase(Secret::new(key.to_text().as_bytes().to_vec())),
        (Lock::Passphrase(secret), None) => Unlock::Passphrase(secret.clone()),
        (Lock::Command(secret), None) => Unlock::Command(secret.clone()),
        // Only the holder of the private half can try it.
        (Lock::PublicKey(_) | Lock::Recovery(_), None) => return Ok(slot),
    };
    Repository::open(repository.store().clone(), &unlock, context.environment()?)?;
    Ok(slot)
}

fn add(context: &Context, lock: &LockArgs, admin: bool, label: &str) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let (lock, recovery) = lock_of(lock)?;
    let slot =
        add_and_try(context, &repository, &lock, recovery.as_ref(), label, admin || recovery.is_some())?;
    context.did(
        recording::changed(Action::KeyChange, "slot added", slot.id).fact("slot_kind", slot.kind.as_str()),
    );
    say_added(context, &slot, recovery.as_ref())?;
    Ok(Outcome::Done)
}

fn say_added(context: &Context, slot: &SlotInfo, recovery: Option<&RecoveryKey>) -> Result<(), Failure> {
    context.output.result(
        || {
            let mut document = slot_json(slot, None);
            if let (Some(key), Value::Object(fields)) = (recovery, &mut document) {
                fields.insert("recovery_key".to_owned(), json!(*key.to_text()));
            }
            document
        },
        |text| {
            writeln!(
                text,
                "added: slot {} ({}, {})",
                &slot.id.to_string()[..8],
                slot.kind,
                if slot.admin { "admin" } else { "plain" }
            )?;
            if let Some(key) = recovery {
                write!(text, "{}", recovery_text(key))?;
            }
            Ok(())
        },
    )?;
    Ok(())
}

/// The recovery key for a person, once.
pub(crate) fn recovery_text(key: &RecoveryKey) -> String {
    format!(
        "\nRecovery key, shown once. It opens the repository when every passphrase is lost: keep it on paper.\n\n    {}\n\n",
        *key.to_text()
    )
}

/// A new slot takes the place of the one that opened the repository.
fn rotate(context: &Context, lock: &LockArgs, label: &str) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let old = repository.opened_slot().ok_or_else(|| Failure::failed("no slot opened the repository"))?;
    let (lock, recovery) = lock_of(lock)?;
    let admin = repository.slots().iter().any(|slot| slot.id == old && slot.admin);
    let slot = add_and_try(context, &repository, &lock, recovery.as_ref(), label, admin)?;
    context.did(
        recording::changed(Action::KeyChange, "slot added", slot.id).fact("slot_kind", slot.kind.as_str()),
    );
    repository.retire_slot(&old)?;
    context.did(recording::changed(Action::KeyChange, "slot retired", old));
    say_added(context, &slot, recovery.as_ref())?;
    context.output.note(&format!("slot {} is retired. Whoever kept its secret together with an old copy of the repository's slots still has the keys: this does not exclude them.", &old.to_string()[..8]));
    Ok(Outcome::Done)
}

fn retire(context: &Context, digits: &str) -> Result<Outcome, Failure> {
    let repository = context.open()?;
    let slots: Vec<TicketId> = repository.slots().into_iter().map(|slot| slot.id).collect();
    let id = by_digits(&slots, digits, "key slot")?;
    repository.retire_slot(&id)?;
    context.did(recording::changed(Action::KeyChange, "slot retired", id));
    context
        .output
        .result(|| json!({ "retired": id.to_string() }), |text| writeln!(text, "retired: slot {id}"))?;
    Ok(Outcome::Done)
}

fn pair(context: &Context, file: &Path) -> Result<Outcome, Failure> {
    let (private, public) = EpochPrivateKey::generate();
    let text = format!("{PRIVATE_PREFIX}{}\n", hex::encode(private.expose()));
    match crashsafe::create(file, text.as_bytes()) {
        Ok(Creation::Created) => {}
        Ok(Creation::Existed) => {
            return Err(Failure::usage(
                format!("{} exists", file.display()),
                "Choose a new file; an existing key is never overwritten.",
            ));
        }
        Err(error) => return Err(Failure::failed(lifeboat_base::report(&error))),
    }
    let digits = hex::encode(&public.0);
    context.output.result(
        || json!({ "public_key": digits, "private_key_file": file.display().to_string() }),
        |text| writeln!(text, "{digits}"),
    )?;
    Ok(Outcome::Done)
}
