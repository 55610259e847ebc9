//! Locations as text: what folder one means, and whether one lies in another. Nothing is looked up.

use std::collections::HashSet;

/// A location without what does not distinguish it: `file:./a/` and `a` are one.
pub(super) fn plain(location: &str) -> &str {
    let without_scheme = |scheme: &str| location.strip_prefix(scheme);
    let path =
        without_scheme("file://").or_else(|| without_scheme("file:")).or_else(|| without_scheme("sqlite:"));
    let path = path.unwrap_or(location);
    let path = path.strip_prefix("./").unwrap_or(path);
    let path = if path.is_empty() { "." } else { path };
    if path.len() > 1 { path.trim_end_matches('/') } else { path }
}

/// The folder or file that a location means, where it means one of this machine.
pub(super) fn folder_of(location: &str) -> Option<&str> {
    let path = plain(location);
    let has_scheme =
        path.split_once(':').is_some_and(|(scheme, _)| scheme.len() > 1 && !scheme.contains('/'));
    (!has_scheme && !path.is_empty()).then_some(path)
}

/// The folder, of many, that a path lies in, or is.
pub(super) fn is_within_any<'f>(path: &str, folders: &HashSet<&'f str>) -> Option<&'f str> {
    let path = plain(path);
    let ends = path.match_indices('/').map(|(at, _)| at.max(1)).chain([path.len()]);
    let around = ends.map(|end| &path[..end]);
    // In a relative folder `.` lies every relative path.
    let here = (!path.starts_with('/')).then_some(".");
    around.chain(here).find_map(|folder| folders.get(folder).copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_place_is_written_in_several_ways() {
        for text in ["file:./a/b/", "./a/b", "a/b", "file://a/b", "sqlite:a/b"] {
            assert_eq!(plain(text), "a/b", "{text}");
        }
        assert_eq!(plain("/"), "/");
        assert_eq!(folder_of("s3://bucket/x"), None);
        assert_eq!(folder_of("env:DATABASE_URL"), None);
        assert_eq!(folder_of("/srv/data"), Some("/srv/data"));
    }

    #[test]
    fn what_lies_in_a_folder_is_found_by_its_parts() {
        let folders = HashSet::from(["/srv/data", "etc"]);
        assert_eq!(is_within_any("/srv/data/keys/a", &folders), Some("/srv/data"));
        assert_eq!(is_within_any("/srv/data", &folders), Some("/srv/data"));
        assert_eq!(is_within_any("/srv/database/a", &folders), None);
        assert_eq!(is_within_any("./etc/key", &folders), Some("etc"));
        assert_eq!(is_within_any("ä/ö", &HashSet::from(["ä"])), Some("ä"));
        assert_eq!(is_within_any("/x", &HashSet::from(["/"])), Some("/"));
        assert_eq!(is_within_any("x", &HashSet::from(["."])), Some("."));
    }
}
