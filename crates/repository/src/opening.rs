//! Opening: the config, a slot that the secret opens, and the newest roster that the root signed.
//!
//! This module reads what comes before trust is established and judges it. It deliberately knows nothing of
//! how other objects are read or written.

use crate::bodies::{self, Config, Origin, Roster, Slot};
use crate::crypto::{PublicKey, Signer};
use crate::envelope::{self, EnvelopeError, FORMAT, ObjectType, Signed};
use crate::error::{RepositoryError, Result};
use crate::ids::{BodyHash, RepositoryId, WriterId};
use crate::keys::{self, Keys, Unlock};
use crate::layout;
use crate::repository::{decode, wrap_open};
use crate::snapshots::is_about_one_object;
use crate::state::{Head, LocalState};
use crate::trust::Trust;
use lifeboat_objects::{Creation, Key, SharedStore, list_all};
use std::collections::BTreeMap;

/// So many numbers of rosters that are taken by what nobody signed are passed over.
pub(crate) const MAX_OCCUPIED: u64 = 64;

pub(crate) fn read_config(store: &SharedStore) -> Result<Signed> {
    let bytes = match store.get(&layout::config()) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return Err(RepositoryError::NotARepository(store.location())),
        Err(error) => return Err(error.into()),
    };
    match envelope::unwrap(&bytes, None, None) {
        Ok((ObjectType::Config, signed)) => Ok(signed),
        Ok((other, _)) => Err(RepositoryError::damaged("config", format!("it is a {other:?}"))),
        Err(EnvelopeError::Newer(found)) => Err(RepositoryError::NewerFormat { found, supported: FORMAT }),
        Err(error) => Err(RepositoryError::damaged("config", error)),
    }
}

/// Tries the slots, the cheap ones first.
pub(crate) fn open_any_slot(store: &SharedStore, repository: &RepositoryId, unlock: &Unlock) -> Result<Keys> {
    let (mut damage, mut readable) = (None, false);
    for listed in list_all(&**store, layout::SLOTS)? {
        let slot = match read_slot(store, &listed.key, repository) {
            Ok(slot) => slot,
            Err(error) => {
                damage = Some(error);
                continue;
            }
        };
        readable = true;
        if keys::is_worth_trying(&slot, unlock)
            && let Some(keys) = keys::open_slot(&slot, unlock)
        {
            return Ok(keys);
        }
    }
    Err(damage.filter(|_| !readable).unwrap_or(RepositoryError::WrongKey))
}

pub(crate) fn read_slot(store: &SharedStore, key: &Key, repository: &RepositoryId) -> Result<Slot> {
    let bytes = store.get(key)?;
    let (kind, signed) =
        envelope::unwrap(&bytes, None, None).map_err(|e| RepositoryError::damaged(key, e))?;
    let slot: Slot = decode(&signed.body, key)?;
    if kind != ObjectType::Slot || slot.repository != *repository || layout::slot(&slot.id) != *key {
        return Err(RepositoryError::damaged(key, "it is no key slot of this repository"));
    }
    Ok(slot)
}

pub(crate) fn read_trust(
    store: &SharedStore,
    config: &Config,
    root: PublicKey,
    state: &LocalState,
) -> Result<Trust> {
    let seen = state.head(&Head::Roster)?.map_or(0, |(number, _)| number);
    let mut numbers: Vec<u64> =
        list_all(&**store, layout::ROSTER)?.iter().filter_map(|l| layout::listed_number(&l.key)).collect();
    let (mut damage, mut shown) = (None, 0);
    while let Some(number) = numbers.pop() {
        match read_roster(store, config, &root, number) {
            Ok((roster, signed)) if number >= seen => {
                state.raise(&Head::Roster, number, &BodyHash::of(&signed))?;
                let origins = read_origins(store, config, &root)?;
                return Ok(Trust { root, roster, roster_signed: signed, origins });
            }
            Ok(_) => {
                shown = number;
                break;
            }
            // Anybody who can create objects can take a number: what the root did not sign does not count.
            Err(error) if is_about_one_object(&error) => {
                damage = damage.or(Some(error)).filter(|_| number == seen || seen == 0);
            }
            Err(error) => return Err(error),
        }
    }
    // The one that this machine has seen is there, but damaged: that says more than that an older is left.
    let rolled_back = RepositoryError::RolledBack { what: "the roster of writers".to_owned(), seen, shown };
    Err(damage.unwrap_or(rolled_back))
}

/// A roster that the root signed for its place, and the body that it signed.
pub(crate) fn read_roster(
    store: &SharedStore,
    config: &Config,
    root: &PublicKey,
    number: u64,
) -> Result<(Roster, Vec<u8>)> {
    let key = layout::roster(number);
    let (kind, signed) =
        envelope::unwrap(&store.get(&key)?, None, None).map_err(|e| RepositoryError::damaged(&key, e))?;
    let misplaced = || RepositoryError::damaged(&key, "the root did not sign it for this place");
    if kind != ObjectType::Roster || !Trust::root_signed(root, ObjectType::Roster, &signed) {
        return Err(misplaced());
    }
    // What the root signed is no junk: passing over it would be going back to an older roster.
    let roster: Roster = bodies::decode(&signed.body).map_err(|_| RepositoryError::NewerRoster(number))?;
    if roster.number != number || roster.repository != config.repository {
        return Err(misplaced());
    }
    Ok((roster, signed.body))
}

/// The first roster of a new repository, at the first number that nothing stands at: what a crashed init
/// left behind does not count, since another root signed it.
pub(crate) fn create_first_roster(
    store: &SharedStore,
    mut roster: Roster,
    root: &Signer,
) -> Result<FirstRoster> {
    loop {
        let signed = bodies::encode(&roster);
        let key = layout::roster(roster.number);
        let bytes = wrap_open(ObjectType::Roster, signed.clone(), root, &roster.repository)?;
        if store.create(&key, &bytes)? == Creation::Created || store.get(&key)? == bytes {
            return Ok(FirstRoster { body: roster, signed });
        }
        if roster.number > MAX_OCCUPIED {
            return Err(RepositoryError::Occupied(key.to_string()));
        }
        roster.number += 1;
    }
}

pub(crate) struct FirstRoster {
    pub(crate) body: Roster,
    pub(crate) signed: Vec<u8>,
}

/// Tidies up after an init. What stays is ignored by everybody.
pub(crate) fn remove_all(store: &SharedStore, keys: &[Key]) {
    for key in keys {
        let _ = store.delete(key);
    }
}

/// Refuses another root than the one that this machine pinned, or the one that was asked for; and one that
/// only a public-key slot vouches for, since that authenticates nothing.
pub(crate) fn judge_root(
    state: &LocalState,
    found: &WriterId,
    unlock: &Unlock,
    asked: Option<WriterId>,
) -> Result<()> {
    let pinned = state.pinned_root()?;
    for expected in [asked, pinned].into_iter().flatten() {
        if expected != *found {
            return Err(RepositoryError::OtherRoot { expected, found: *found });
        }
    }
    let vouched = asked.or(pinned).is_some() || !matches!(unlock, Unlock::PrivateKey(_));
    if vouched { Ok(()) } else { Err(RepositoryError::UnknownRoot(*found)) }
}

/// The newest roster of each origin that this copy's root countersigned. What fails here vouches for nobody,
/// and what needed it fails in its turn; it does not keep the copy from being opened.
pub(crate) fn read_origins(store: &SharedStore, config: &Config, root: &PublicKey) -> Result<Vec<Roster>> {
    let mut newest: BTreeMap<RepositoryId, Roster> = BTreeMap::new();
    for listed in list_all(&**store, layout::ORIGINS)? {
        let roster = match read_origin(store, config, root, &listed.key) {
            Ok(roster) => roster,
            Err(error) if is_about_one_object(&error) => continue,
            Err(error) => return Err(error),
        };
        if newest.get(&roster.repository).is_none_or(|known| known.number < roster.number) {
            newest.insert(roster.repository, roster);
        }
    }
    Ok(newest.into_values().collect())
}

/// The roster of an origin, for which this copy's root and the origin's both stand.
pub(crate) fn read_origin(
    store: &SharedStore,
    config: &Config,
    root: &PublicKey,
    key: &Key,
) -> Result<Roster> {
    let (kind, signed) =
        envelope::unwrap(&store.get(key)?, None, None).map_err(|e| RepositoryError::damaged(key, e))?;
    let origin: Origin = decode(&signed.body, key)?;
    let countersigned = kind == ObjectType::Origin
        && origin.repository == config.repository
        && origin.origin != config.repository
        && layout::origin(&origin.root.id(), origin.number) == *key
        && Trust::root_signed(root, ObjectType::Origin, &signed)
        && Trust::root_signed(&origin.root, ObjectType::Roster, &origin.roster);
    if !countersigned {
        return Err(RepositoryError::damaged(key, "the root did not countersign it"));
    }
    let roster: Roster = decode(&origin.roster.body, key)?;
    if roster.repository != origin.origin || roster.number != origin.number {
        return Err(RepositoryError::damaged(key, "it carries another roster than it says"));
    }
    Ok(roster)
}
