//! `pg_service.conf`: connection options under a name.

use super::OptionsError;
use super::parse::Settings;
use std::fs;
use std::path::{Path, PathBuf};

/// The options of a service, from the first file that defines it. Missing files define nothing, except one
/// that was named expressly.
pub(super) fn load(service: &str, named: Option<&Path>, usual: &[PathBuf]) -> Result<Settings, OptionsError> {
    let files = named.map_or_else(|| usual.to_vec(), |named| vec![named.to_path_buf()]);
    for path in files {
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && named.is_none() => continue,
            Err(source) => return Err(OptionsError::File { path, source }),
        };
        if let Some(settings) = section(&text, service)? {
            return Ok(settings);
        }
    }
    Err(OptionsError::NoService { service: service.to_owned() })
}

fn section(text: &str, service: &str) -> Result<Option<Settings>, OptionsError> {
    let mut found: Option<Settings> = None;
    let lines = text.lines().map(str::trim).enumerate();
    for (index, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        if let Some(rest) = line.strip_prefix('[') {
            if found.is_some() {
                return Ok(found);
            }
            found = (rest.strip_suffix(']') == Some(service)).then(Settings::new);
        } else if let Some(settings) = &mut found {
            let Some((key, value)) = line.split_once('=') else {
                let what = format!("line {} of the service file has no `=`", index + 1);
                return Err(OptionsError::Syntax { what });
            };
            settings.push((key.to_owned(), value.to_owned()));
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_that_is_named_counts() {
        let text = "# ours\n[other]\nhost=a\n\n[main]\nhost=b\n# no\nport=5433\n[third]\nhost=c\n";
        let expected = vec![("host".to_owned(), "b".to_owned()), ("port".to_owned(), "5433".to_owned())];
        assert_eq!(section(text, "main").unwrap(), Some(expected));
        assert_eq!(section(text, "absent").unwrap(), None);
        assert!(section("[main]\nhost\n", "main").is_err());
    }
}
