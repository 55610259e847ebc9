//! Targets for texts that name objects and places of stores.

use lifeboat_objects::{Key, Location};

/// A target: its corpus, and the function that says whether it takes an input.
pub type Target = (&'static str, fn(&[u8]) -> bool);

/// Every target of this module.
pub const TARGETS: &[Target] = &[("key", key), ("location", location)];

/// The name of an object: one that is taken cannot leave the root that it is put under.
pub fn key(bytes: &[u8]) -> bool {
    let Some(key) = std::str::from_utf8(bytes).ok().and_then(|text| Key::new(text).ok()) else {
        return false;
    };
    assert_eq!(key.as_str().as_bytes(), bytes);
    let path = std::path::Path::new(key.as_str());
    assert!(path.components().all(|part| matches!(part, std::path::Component::Normal(_))), "{key}");
    assert_eq!(path.file_name().and_then(|name| name.to_str()), Some(key.last_component()));
    true
}

/// A location: one that is taken is shown as a text that means the same.
pub fn location(bytes: &[u8]) -> bool {
    let Some(location) = std::str::from_utf8(bytes).ok().and_then(|text| Location::parse(text).ok()) else {
        return false;
    };
    assert_eq!(Location::parse(&location.to_string()), Ok(location));
    true
}
