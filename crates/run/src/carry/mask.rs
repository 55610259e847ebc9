//! Secrets in what a step prints, blotted out, also where a secret arrives in several reads.

use lifeboat_base::Secret;

/// What stands where a secret was.
const BLOT: &[u8] = b"***";

/// Blots out secrets in a stream of bytes.
#[derive(Debug)]
pub struct Masker {
    secrets: Vec<Secret>,
    /// The beginning of what may become a secret.
    held: Vec<u8>,
}

impl Masker {
    /// Blots out these.
    pub fn new(secrets: &[Secret]) -> Self {
        let mut secrets: Vec<Secret> = secrets.iter().flat_map(parts).collect();
        // The longest first: one secret may begin with another.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        Self { secrets, held: Vec::new() }
    }

    /// Takes the next bytes and gives what can be shown by now.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut all = std::mem::take(&mut self.held);
        all.extend_from_slice(bytes);
        let (shown, held) = self.mask(&all, false);
        self.held = held;
        shown
    }

    /// Gives what was held back, at the end.
    pub fn finish(&mut self) -> Vec<u8> {
        let all = std::mem::take(&mut self.held);
        self.mask(&all, true).0
    }

    fn mask(&self, all: &[u8], is_end: bool) -> (Vec<u8>, Vec<u8>) {
        let mut shown = Vec::with_capacity(all.len());
        let mut place = 0;
        while place < all.len() {
            let rest = &all[place..];
            if let Some(secret) = self.secrets.iter().find(|secret| rest.starts_with(secret.expose())) {
                // A longer one may still be arriving, of which this is the beginning.
                if !is_end && self.may_become_longer(rest, secret.expose().len()) {
                    return (shown, rest.to_vec());
                }
                shown.extend_from_slice(BLOT);
                place += secret.expose().len();
            } else if !is_end && self.may_become_longer(rest, 0) {
                return (shown, rest.to_vec());
            } else {
                shown.push(rest[0]);
                place += 1;
            }
        }
        (shown, Vec::new())
    }

    fn may_become_longer(&self, rest: &[u8], than: usize) -> bool {
        self.secrets.iter().any(|secret| {
            let secret = secret.expose();
            secret.len() > rest.len().max(than) && secret.starts_with(rest)
        })
    }

    /// A text without secrets.
    pub fn text(secrets: &[Secret], text: &str) -> String {
        let mut masker = Self::new(secrets);
        let mut shown = masker.push(text.as_bytes());
        shown.extend(masker.finish());
        String::from_utf8_lossy(&shown).into_owned()
    }
}

/// A secret, and the lines of one of several lines: a program prints a key line by line.
fn parts(secret: &Secret) -> Vec<Secret> {
    /// A shorter line is a word that many outputs have.
    const SHORTEST_LINE: usize = 8;
    let bytes = secret.expose();
    let trimmed = bytes.trim_ascii();
    let lines = trimmed.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let lines = lines.filter(|line| line.len() >= SHORTEST_LINE && line.len() < trimmed.len());
    let whole = [trimmed].into_iter().filter(|whole| !whole.is_empty());
    whole.chain(lines).map(|part| Secret::new(part.to_vec())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(texts: &[&str]) -> Vec<Secret> {
        texts.iter().map(|text| Secret::new(text.as_bytes().to_vec())).collect()
    }

    #[test]
    fn a_secret_split_anywhere_does_not_show() {
        let secrets = secrets(&["hunter2", "hunter2000"]);
        let text = b"a hunter2 b hunter2000 hunter hunthunter2";
        for first in 0..=text.len() {
            for second in first..=text.len() {
                let mut masker = Masker::new(&secrets);
                let mut shown = masker.push(&text[..first]);
                shown.extend(masker.push(&text[first..second]));
                shown.extend(masker.push(&text[second..]));
                shown.extend(masker.finish());
                assert_eq!(shown, b"a *** b *** hunter hunt***", "{first} {second}");
            }
        }
    }

    #[test]
    fn the_lines_of_a_key_are_secrets_as_well() {
        let secrets = secrets(&["-----BEGIN-----\nabcdefghijkl\nshort\n"]);
        assert_eq!(Masker::text(&secrets, "x abcdefghijkl y short"), "x *** y short");
        assert_eq!(Masker::text(&self::secrets(&["", "\n"]), "nothing\n"), "nothing\n");
    }
}
