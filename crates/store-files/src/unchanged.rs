//! When a file may be taken over from the base without being read.

use lifeboat_base::clock::Timestamp;
use lifeboat_repository::tree::{Content, Entry, FileTime};

/// How much older than the base snapshot a change must be to be told from a later one. A file system stamps
/// in steps (4 ms in most kernels, 2 s on FAT): a file that was changed, recorded and changed again within
/// one step looks the same both times. `git` calls such an entry racy.
const RACY_SECS: i64 = 2;

/// Decides by the change time, which no program can set: whatever is done to a file moves it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unchanged {
    before: Option<FileTime>,
}

impl Unchanged {
    /// For a base that was begun at `base_taken`; without one nothing is unchanged.
    pub(crate) fn since(base_taken: Option<Timestamp>) -> Self {
        Self { before: base_taken.map(|taken| FileTime { secs: taken.as_secs() - RACY_SECS, nanos: 0 }) }
    }

    /// Whether `now` is what the base recorded, so that its content is.
    pub(crate) fn holds(self, now: &Entry, base: &Entry) -> bool {
        self.before.is_some_and(|before| now.metadata.changed < before)
            && !base.torn
            && !matches!(base.content, Content::HardLink { .. })
            && now.kind == base.kind
            && now.size == base.size
            && now.metadata.modified == base.metadata.modified
            && now.metadata.changed == base.metadata.changed
            && now.metadata.inode == base.metadata.inode
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_repository::tree::EntryKind;

    fn entry(changed_secs: i64) -> Entry {
        let mut entry = Entry::new("x", EntryKind::File);
        entry.size = 5;
        entry.metadata.inode = 7;
        entry.metadata.modified = FileTime { secs: 50, nanos: 1 };
        entry.metadata.changed = FileTime { secs: changed_secs, nanos: 999_999_999 };
        entry
    }

    #[test]
    fn only_what_is_the_same_and_old_enough() {
        let rule = Unchanged::since(Some(Timestamp::from_secs(1000)));
        assert!(rule.holds(&entry(997), &entry(997)));
        let differences: [fn(&mut Entry); 7] = [
            |e| e.size = 6,
            |e| e.metadata.inode = 8,
            |e| e.metadata.modified.nanos = 2,
            |e| e.metadata.changed.nanos = 2,
            |e| e.torn = true,
            |e| e.content = Content::HardLink { path: b"y".into() },
            |e| e.kind = EntryKind::Symlink,
        ];
        for (n, differ) in differences.iter().enumerate() {
            let mut base = entry(997);
            differ(&mut base);
            assert!(!rule.holds(&entry(997), &base), "difference {n}");
        }
    }

    #[test]
    fn what_changed_about_when_the_base_was_begun_is_read_again() {
        let rule = Unchanged::since(Some(Timestamp::from_secs(1000)));
        for secs in [998, 999, 1000, 1001, 5000] {
            assert!(!rule.holds(&entry(secs), &entry(secs)), "{secs}");
        }
        assert!(!Unchanged::since(None).holds(&entry(1), &entry(1)));
    }

    #[test]
    fn a_new_device_number_or_owner_is_no_change_of_content() {
        let rule = Unchanged::since(Some(Timestamp::from_secs(1000)));
        let mut base = entry(10);
        base.metadata.device = 99;
        base.metadata.uid = 99;
        assert!(rule.holds(&entry(10), &base));
    }
}
