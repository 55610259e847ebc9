//! The two spellings of a connection string: URLs and lists of `key=value`.
//!
//! Knows which text belongs to which key, and deliberately not what the keys mean.

use super::OptionsError;

/// Settings in the order in which they were written. A later one outranks an earlier one.
pub(super) type Settings = Vec<(String, String)>;

fn syntax<T>(what: impl Into<String>) -> Result<T, OptionsError> {
    Err(OptionsError::Syntax { what: what.into() })
}

/// Reads either spelling.
pub(super) fn connection_string(text: &str) -> Result<Settings, OptionsError> {
    let url = text.strip_prefix("postgres://").or_else(|| text.strip_prefix("postgresql://"));
    match url {
        Some(rest) => self::url(rest),
        None => key_values(text),
    }
}

fn url(rest: &str) -> Result<Settings, OptionsError> {
    let mut settings = Settings::new();
    let rest = user_info(rest, &mut settings)?;
    let hosts_end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (hosts, rest) = rest.split_at(hosts_end);
    host_list(hosts, &mut settings)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    if let Some(database) = path.strip_prefix('/').filter(|database| !database.is_empty()) {
        settings.push(("dbname".to_owned(), decode(database)?));
    }
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        parameter(pair, &mut settings)?;
    }
    Ok(settings)
}

/// Takes `user:password@` off the front. As in libpq, an `@` counts only before the first `/`.
fn user_info<'t>(rest: &'t str, settings: &mut Settings) -> Result<&'t str, OptionsError> {
    let Some(at) = rest.find(['@', '/']).filter(|at| rest[*at..].starts_with('@')) else {
        return Ok(rest);
    };
    let (user, password) = match rest[..at].split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (&rest[..at], None),
    };
    if !user.is_empty() {
        settings.push(("user".to_owned(), decode(user)?));
    }
    if let Some(password) = password.filter(|password| !password.is_empty()) {
        settings.push(("password".to_owned(), decode(password)?));
    }
    Ok(&rest[at + 1..])
}

fn host_list(hosts: &str, settings: &mut Settings) -> Result<(), OptionsError> {
    if hosts.is_empty() {
        return Ok(());
    }
    let mut names = Vec::new();
    let mut ports = Vec::new();
    for host in hosts.split(',') {
        let (name, port) = host_and_port(host)?;
        names.push(decode(name)?);
        ports.push(decode(port)?);
    }
    settings.push(("host".to_owned(), names.join(",")));
    if ports.iter().any(|port| !port.is_empty()) {
        settings.push(("port".to_owned(), ports.join(",")));
    }
    Ok(())
}

fn host_and_port(host: &str) -> Result<(&str, &str), OptionsError> {
    let Some(inner) = host.strip_prefix('[') else {
        return Ok(host.split_once(':').unwrap_or((host, "")));
    };
    let Some((name, rest)) = inner.split_once(']') else {
        return syntax("a `[` of an IPv6 address is never closed");
    };
    match rest.strip_prefix(':') {
        Some(port) => Ok((name, port)),
        None if rest.is_empty() => Ok((name, "")),
        None => syntax("only a port may stand behind the `]` of an IPv6 address"),
    }
}

fn parameter(pair: &str, settings: &mut Settings) -> Result<(), OptionsError> {
    let Some((key, value)) = pair.split_once('=') else {
        return syntax("a parameter behind `?` has no `=`");
    };
    let (key, value) = (decode(key)?, decode(value)?);
    // The one word of JDBC's URLs that libpq takes too.
    let pair = if key == "ssl" && value == "true" {
        ("sslmode".to_owned(), "require".to_owned())
    } else {
        (key, value)
    };
    settings.push(pair);
    Ok(())
}

/// Takes percent-encoding back.
fn decode(text: &str) -> Result<String, OptionsError> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let digits = tail.get(..2).and_then(|digits| std::str::from_utf8(digits).ok());
        let digits = digits.filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        let Some(byte) = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) else {
            return syntax("two hexadecimal digits must stand behind each `%`");
        };
        if byte == 0 {
            return syntax("`%00` stands for nothing that PostgreSQL can take");
        }
        bytes.push(byte);
        rest = &tail[2..];
    }
    String::from_utf8(bytes).or_else(|_| syntax("what is percent-encoded is not UTF-8"))
}

/// Reads `key = 'value' key=value …`.
pub(super) fn key_values(text: &str) -> Result<Settings, OptionsError> {
    let mut settings = Settings::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let Some(equals) = rest.find('=') else {
            return syntax("a `=` is missing behind the last word");
        };
        let key = rest[..equals].trim_end();
        if key.is_empty() || key.contains(char::is_whitespace) {
            return syntax("a `=` must stand behind each key");
        }
        let (value, behind) = value(rest[equals + 1..].trim_start())?;
        settings.push((key.to_owned(), value));
        rest = behind.trim_start();
    }
    Ok(settings)
}

/// One value and what stands behind it. A backslash takes the next character as it is.
fn value(text: &str) -> Result<(String, &str), OptionsError> {
    let quoted = text.strip_prefix('\'');
    let body = quoted.unwrap_or(text);
    let mut value = String::new();
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\\' => value.extend(characters.next().map(|(_, next)| next)),
            '\'' if quoted.is_some() => return Ok((value, &body[at + 1..])),
            space if quoted.is_none() && space.is_whitespace() => return Ok((value, &body[at..])),
            other => value.push(other),
        }
    }
    if quoted.is_some() {
        return syntax("a value's `'` is never closed");
    }
    Ok((value, ""))
}
