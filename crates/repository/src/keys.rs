//! Keys: the slots that open a repository and what they open.
//!
//! Each slot seals one authenticated record (repository, root public key, the epoch's private half, the key
//! of identities); an admin slot also the root's private key. This module knows how a slot is locked and
//! opened; where slots lie and who may make one is for [`crate::repository`].

use crate::bodies::{self, EpochInfo, Roster, Slot, SlotLock, SlotSecrets};
use crate::crypto::{
    Argon2Cost, ContentKey, CryptoError, EpochPrivateKey, EpochPublicKey, IdKey, PublicKey, SealedKey,
    Signer, from_high_entropy, from_passphrase, open_with_private, seal_to_public,
};
use crate::error::{RepositoryError, Result};
use crate::ids::{RepositoryId, TicketId};
use lifeboat_base::{Secret, random};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// What a person or a program holds to open a repository.
#[derive(Clone, Debug)]
pub enum Unlock {
    /// A passphrase, a recovery key in its printed form, or what an external command prints.
    Passphrase(Secret),
    /// The private half of a public-key slot.
    PrivateKey(EpochPrivateKey),
    /// At least 16 random bytes that an external command printed.
    Command(Secret),
}

/// How a new slot is to be locked.
#[derive(Clone, Debug)]
pub enum Lock {
    /// By a passphrase.
    Passphrase(Secret),
    /// By a recovery key.
    Recovery(RecoveryKey),
    /// To somebody's X25519 public key.
    PublicKey(EpochPublicKey),
    /// By at least 16 random bytes that an external command prints.
    Command(Secret),
}

impl Lock {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::Recovery(_) => "recovery",
            Self::PublicKey(_) => "public-key",
            Self::Command(_) => "command",
        }
    }
}

/// The recovery key: 256 random bits in a form that can be written down and typed in.
#[derive(Clone, Debug)]
pub struct RecoveryKey(Secret);

/// Crockford's base 32: no I, L, O, U, so that nothing is misread.
const RECOVERY_ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
const RECOVERY_PREFIX: &str = "LIFEBOAT-";
/// 256 bits in 52 characters of 5 bits, and a checksum of 20 bits in 4.
const RECOVERY_CHARACTERS: usize = 56;

impl RecoveryKey {
    /// A new random key.
    pub fn generate() -> Self {
        Self(Secret::new(random::bytes::<32>().to_vec()))
    }

    /// The printed form: `LIFEBOAT-` and fourteen groups of four.
    pub fn to_text(&self) -> Zeroizing<String> {
        let key = self.0.expose();
        let mut text = Zeroizing::new(String::from(RECOVERY_PREFIX.trim_end_matches('-')));
        for (n, digit) in digits(key).into_iter().chain(checksum(key)).enumerate() {
            if n % 4 == 0 {
                text.push('-');
            }
            text.push(char::from(RECOVERY_ALPHABET[usize::from(digit)]));
        }
        text
    }

    /// Reads the printed form, forgiving case, spaces, hyphens and misread letters. `None` where it is no
    /// recovery key, or one with a mistake in it.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_uppercase();
        let rest = text.strip_prefix(RECOVERY_PREFIX.trim_end_matches('-'))?;
        let values: Option<Vec<u8>> = rest
            .bytes()
            .filter(|b| !matches!(b, b'-' | b' '))
            .map(|b| {
                let b = match b {
                    b'O' => b'0',
                    b'I' | b'L' => b'1',
                    other => other,
                };
                RECOVERY_ALPHABET.iter().position(|a| *a == b).and_then(|n| u8::try_from(n).ok())
            })
            .collect();
        let values = Zeroizing::new(values?);
        if values.len() != RECOVERY_CHARACTERS {
            return None;
        }
        let key = Zeroizing::new(undigits(&values[..52]));
        let good = checksum(&*key) == values[52..];
        good.then(|| Self(Secret::new(key.to_vec())))
    }

    fn secret(&self) -> &[u8] {
        self.0.expose()
    }
}

/// 256 bits as 52 digits of 5 bits, the last with four zero bits behind it.
fn digits(key: &[u8]) -> Vec<u8> {
    (0..52).map(|n| (0..5).fold(0, |digit, bit| digit << 1 | bit_at(key, n * 5 + bit))).collect()
}

fn bit_at(key: &[u8], bit: usize) -> u8 {
    key.get(bit / 8).map_or(0, |byte| byte >> (7 - bit % 8) & 1)
}

fn undigits(digits: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    for bit in 0..256 {
        key[bit / 8] |= (digits[bit / 5] >> (4 - bit % 5) & 1) << (7 - bit % 8);
    }
    key
}

/// The first 20 bits of the key's SHA-256, as four digits.
fn checksum(key: &[u8]) -> Vec<u8> {
    let digest = crate::crypto::sha256(key);
    (0..4).map(|n| (0..5).fold(0, |digit, bit| digit << 1 | bit_at(&digest, n * 5 + bit))).collect()
}

/// What a slot opened: everything that is needed to read, and the root key where the slot was admin.
#[derive(Clone, Debug)]
pub(crate) struct Keys {
    pub(crate) root: PublicKey,
    pub(crate) epochs: EpochKeys,
    pub(crate) id_key: IdKey,
    pub(crate) root_signer: Option<Signer>,
    /// The slot that opened, where one did.
    pub(crate) slot: Option<TicketId>,
}

/// The private halves of the epochs, by number.
#[derive(Clone, Debug)]
pub(crate) struct EpochKeys {
    private: BTreeMap<u32, EpochPrivateKey>,
}

impl EpochKeys {
    pub(crate) fn new(epoch: u32, private: EpochPrivateKey) -> Self {
        Self { private: BTreeMap::from([(epoch, private)]) }
    }

    pub(crate) fn open(&self, epoch: u32, sealed: &SealedKey, info: &[u8]) -> Result<[u8; 32], CryptoError> {
        sealed.open(self.private.get(&epoch).ok_or(CryptoError)?, info)
    }

    /// The newest epoch that we can open.
    pub(crate) fn newest(&self) -> (u32, &EpochPrivateKey) {
        let (number, key) = self.private.last_key_value().expect("there is one epoch from the start");
        (*number, key)
    }

    /// Opens the older epochs, each sealed to the one after it.
    pub(crate) fn unlock_older(&mut self, repository: &RepositoryId, epochs: &[EpochInfo]) -> Result<()> {
        let by_number: BTreeMap<u32, &EpochInfo> = epochs.iter().map(|e| (e.number, e)).collect();
        let (mut number, mut key) = {
            let (n, k) = self.newest();
            (n, k.clone())
        };
        while let Some(sealed) = by_number.get(&number).and_then(|info| info.sealed_previous.as_ref()) {
            let older = number.saturating_sub(1);
            let damaged =
                || RepositoryError::damaged("the roster", format!("the key of epoch {older} does not open"));
            let (encapsulated, ciphertext) = sealed.split_first_chunk::<32>().ok_or_else(damaged)?;
            let opened = open_with_private(encapsulated, ciphertext, &key, &epoch_info(repository, number))
                .map_err(|_| damaged())?;
            number = older;
            key = EpochPrivateKey::from_bytes(opened.as_array().ok_or_else(damaged)?);
            self.private.insert(number, key.clone());
        }
        Ok(())
    }
}

fn epoch_info(repository: &RepositoryId, number: u32) -> Vec<u8> {
    let mut info = b"lifeboat epoch 1\0".to_vec();
    info.extend_from_slice(&repository.0);
    info.extend_from_slice(&number.to_le_bytes());
    info
}

/// What a slot's record is bound to: it opens only in its own place.
fn slot_binding(repository: &RepositoryId, id: &TicketId, admin: bool) -> Vec<u8> {
    let mut binding = b"lifeboat slot 1\0".to_vec();
    binding.extend_from_slice(&repository.0);
    binding.extend_from_slice(&id.0);
    binding.push(u8::from(admin));
    binding
}

/// Locks a new slot. An admin slot takes the root key along.
pub(crate) fn lock_slot(repository: RepositoryId, keys: &Keys, lock: &Lock, admin: bool) -> Result<Slot> {
    let id = TicketId(random::bytes());
    let (epoch, private) = keys.epochs.newest();
    let secrets = SlotSecrets {
        repository,
        root: keys.root,
        epoch,
        epoch_private: private
            .expose()
            .try_into()
            .map_err(|_| RepositoryError::damaged("the epoch's key", "wrong length"))?,
        id_key: keys.id_key.expose(),
        root_seed: admin.then(|| keys.root_signer.as_ref().map(|s| s.expose_seed().to_vec())).flatten(),
    };
    if admin && secrets.root_seed.is_none() {
        return Err(RepositoryError::NeedsAdmin("making an admin key slot"));
    }
    let mut sealed = bodies::encode(&secrets);
    let binding = slot_binding(&repository, &id, admin);
    let salt = random::bytes();
    let failed = |_| RepositoryError::damaged("new key slot", "the key cannot be derived");
    let lock = match lock {
        Lock::Passphrase(passphrase) => {
            let cost = Argon2Cost::DEFAULT;
            let key = from_passphrase(passphrase.expose(), &salt, cost).map_err(failed)?;
            ContentKey::from_bytes(*key).seal(0, &binding, &mut sealed);
            SlotLock::Passphrase { cost, salt }
        }
        Lock::Recovery(recovery) => {
            ContentKey::from_bytes(*from_high_entropy(recovery.secret(), &salt)).seal(
                0,
                &binding,
                &mut sealed,
            );
            SlotLock::Recovery { salt }
        }
        Lock::Command(secret) => {
            ContentKey::from_bytes(*from_high_entropy(secret.expose(), &salt)).seal(0, &binding, &mut sealed);
            SlotLock::Command { salt }
        }
        Lock::PublicKey(public) => {
            let (encapsulated, ciphertext) = seal_to_public(&sealed, public, &binding).map_err(failed)?;
            sealed = ciphertext;
            SlotLock::PublicKey { public: public.0, encapsulated }
        }
    };
    Ok(Slot { repository, id, lock, admin, sealed })
}

/// Tries one slot. `None` where the secret does not open it.
pub(crate) fn open_slot(slot: &Slot, unlock: &Unlock) -> Option<Keys> {
    let record = open_record(slot, unlock)?;
    let secrets: SlotSecrets = bodies::decode(record.expose()).ok()?;
    if secrets.repository != slot.repository {
        return None;
    }
    let root_signer = match &secrets.root_seed {
        Some(seed) => Some(Signer::from_seed(seed.as_slice().try_into().ok()?)),
        None => None,
    };
    if root_signer.as_ref().is_some_and(|signer| signer.public() != secrets.root) {
        return None;
    }
    Some(Keys {
        root: secrets.root,
        epochs: EpochKeys::new(secrets.epoch, EpochPrivateKey::from_bytes(&secrets.epoch_private)),
        id_key: IdKey::from_bytes(secrets.id_key),
        root_signer,
        slot: Some(slot.id),
    })
}

fn open_record(slot: &Slot, unlock: &Unlock) -> Option<Secret> {
    let binding = slot_binding(&slot.repository, &slot.id, slot.admin);
    let key = match (&slot.lock, unlock) {
        (SlotLock::PublicKey { encapsulated, .. }, Unlock::PrivateKey(private)) => {
            return open_with_private(encapsulated, &slot.sealed, private, &binding).ok();
        }
        (SlotLock::Passphrase { cost, salt }, Unlock::Passphrase(text)) => {
            from_passphrase(text.expose(), salt, *cost).ok()?
        }
        (SlotLock::Recovery { salt }, Unlock::Passphrase(text)) => {
            let recovery = RecoveryKey::from_text(std::str::from_utf8(text.expose()).ok()?)?;
            from_high_entropy(recovery.secret(), salt)
        }
        (SlotLock::Command { salt }, Unlock::Command(secret) | Unlock::Passphrase(secret)) => {
            from_high_entropy(secret.expose(), salt)
        }
        _ => return None,
    };
    let mut record = slot.sealed.clone();
    ContentKey::from_bytes(*key).open(0, &binding, &mut record).ok()?;
    Some(Secret::new(record))
}

/// Whether trying this slot is cheap: passphrase slots are tried last, and not at all for a recovery key.
pub(crate) fn is_worth_trying(slot: &Slot, unlock: &Unlock) -> bool {
    match (&slot.lock, unlock) {
        (SlotLock::Passphrase { .. }, Unlock::Passphrase(text)) => {
            std::str::from_utf8(text.expose()).ok().and_then(RecoveryKey::from_text).is_none()
        }
        (SlotLock::Recovery { .. }, Unlock::Passphrase(_))
        | (SlotLock::PublicKey { .. }, Unlock::PrivateKey(_))
        | (SlotLock::Command { .. }, Unlock::Command(_) | Unlock::Passphrase(_)) => true,
        _ => false,
    }
}

/// The public half of the newest epoch that the roster names.
pub(crate) fn newest_epoch(roster: &Roster) -> Result<(u32, EpochPublicKey)> {
    roster
        .epochs
        .iter()
        .max_by_key(|epoch| epoch.number)
        .map(|epoch| (epoch.number, EpochPublicKey(epoch.public)))
        .ok_or_else(|| RepositoryError::damaged("the roster", "it names no epoch"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> (RepositoryId, Keys) {
        let root = Signer::generate();
        let (private, _) = EpochPrivateKey::generate();
        let keys = Keys {
            root: root.public(),
            epochs: EpochKeys::new(1, private),
            id_key: IdKey::random(),
            root_signer: Some(root),
            slot: None,
        };
        (RepositoryId(random::bytes()), keys)
    }

    #[test]
    fn each_lock_opens_with_its_own_secret_alone() {
        let (repository, keys) = keys();
        let recovery = RecoveryKey::generate();
        let (private, public) = EpochPrivateKey::generate();
        let text = Secret::new(recovery.to_text().as_bytes().to_vec());
        let locks = [
            (Lock::Passphrase(Secret::new(b"a".to_vec())), Unlock::Passphrase(Secret::new(b"a".to_vec()))),
            (Lock::Recovery(recovery), Unlock::Passphrase(text)),
            (Lock::PublicKey(public), Unlock::PrivateKey(private)),
            (Lock::Command(Secret::new(vec![9; 16])), Unlock::Command(Secret::new(vec![9; 16]))),
        ];
        for (n, (lock, _)) in locks.iter().enumerate() {
            let slot = lock_slot(repository, &keys, lock, true).unwrap();
            for (m, (_, unlock)) in locks.iter().enumerate() {
                let opened = open_slot(&slot, unlock);
                assert_eq!(opened.is_some(), n == m, "lock {n}, unlock {m}");
                assert!(opened.is_none_or(|keys| keys.root_signer.is_some()));
            }
        }
    }

    #[test]
    fn a_plain_slot_has_no_root_key_and_cannot_be_made_admin() {
        let (repository, keys) = keys();
        let secret = Secret::new(vec![1; 16]);
        let mut slot = lock_slot(repository, &keys, &Lock::Command(secret.clone()), false).unwrap();
        let opened = open_slot(&slot, &Unlock::Command(secret.clone())).unwrap();
        assert!(opened.root_signer.is_none());
        assert!(matches!(
            lock_slot(repository, &opened, &Lock::Command(secret.clone()), true),
            Err(RepositoryError::NeedsAdmin(_))
        ));
        slot.admin = true;
        assert!(open_slot(&slot, &Unlock::Command(secret)).is_none());
    }

    #[test]
    fn recovery_keys_survive_paper() {
        let key = RecoveryKey::generate();
        let text = key.to_text();
        assert_eq!(text.len(), RECOVERY_PREFIX.len() + 14 * 5 - 1);
        let sloppy = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
        let sloppy = sloppy.replacen("lifeboat", "LIFEBOAT", 1);
        assert_eq!(RecoveryKey::from_text(&sloppy).unwrap().secret(), key.secret());
        let mut wrong = text.as_bytes().to_vec();
        let last = wrong.len() - 30;
        wrong[last] = if wrong[last] == b'7' { b'8' } else { b'7' };
        let wrong = String::from_utf8(wrong).unwrap();
        assert!(wrong == *text || RecoveryKey::from_text(&wrong).is_none());
        assert!(RecoveryKey::from_text("correct horse battery staple").is_none());
    }
}
