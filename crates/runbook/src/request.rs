//! What stands in `http` and `lifeboat` blocks: one request, one command. Sends and runs nothing.

use crate::step::HttpRequest;

/// Reads `METHOD URL`, headers, an empty line and a body.
///
/// # Errors
/// Saying how the line would have to be.
pub(crate) fn http(body: &str) -> Result<HttpRequest, String> {
    let mut lines = body.split_inclusive('\n');
    let first = lines.next().unwrap_or_default().trim();
    let (method, url) = first.split_once(' ').unwrap_or((first, ""));
    let (method, url) = (method.to_owned(), url.trim().to_owned());
    if method.is_empty() || !method.bytes().all(|b| b.is_ascii_uppercase()) {
        return Err(
            "a request begins with its method and its address: GET http://localhost:8080/readyz".to_owned()
        );
    }
    let is_address = ["http://", "https://", "${"].iter().any(|begin| url.starts_with(begin));
    if !is_address || url.contains(char::is_whitespace) {
        return Err(format!("{url:?} is no address: it begins with http:// or https:// and has no space"));
    }
    let mut headers = Vec::new();
    for line in lines.by_ref() {
        let line = line.trim_end();
        if line.is_empty() {
            break;
        }
        headers.push(header(line)?);
    }
    let body: String = lines.collect();
    let body = body.strip_suffix('\n').unwrap_or(&body);
    Ok(HttpRequest { method, url, headers, body: (!body.is_empty()).then(|| body.to_owned()) })
}

fn header(line: &str) -> Result<(String, String), String> {
    let is_token = |name: &str| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    match line.split_once(':') {
        Some((name, value)) if is_token(name) => Ok((name.to_owned(), value.trim().to_owned())),
        _ => Err(format!(
            "{line:?} is no header: write it as Name: value; the body comes behind an empty line"
        )),
    }
}

/// Reads one command, word by word, as a shell splits it. Nothing is expanded, so what a shell would expand is an
/// error outside of single quotes; a value goes in as `${name}`.
///
/// # Errors
/// Saying what is no part of one command.
pub(crate) fn command(body: &str) -> Result<Vec<String>, String> {
    let mut words = split(body.trim())?;
    if words.first().is_some_and(|word| word == "lifeboat") {
        words.remove(0);
    }
    if words.is_empty() { Err("there is no command".to_owned()) } else { Ok(words) }
}

fn split(text: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\n' => {
                return Err(
                    "a block holds one command; it goes on behind a \\ at the end of a line".to_owned()
                );
            }
            _ if c.is_whitespace() => words.extend(word.take()),
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(escaped) => word.get_or_insert_default().push(escaped),
                None => return Err("there is nothing behind the last \\".to_owned()),
            },
            '\'' => single(&mut chars, word.get_or_insert_default())?,
            '"' => double(&mut chars, word.get_or_insert_default())?,
            '$' => dollar(&mut chars, word.get_or_insert_default())?,
            '|' | '&' | ';' | '<' | '>' | '(' | ')' | '`' | '*' | '?' => return Err(no_shell(c)),
            '#' if word.is_none() => {
                return Err("a command has no comments; the text around it has".to_owned());
            }
            _ => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

type Chars<'t> = std::iter::Peekable<std::str::Chars<'t>>;

fn no_shell(c: char) -> String {
    format!("no shell reads a lifeboat block: `{c}` means nothing here; quote it, or write a bash block")
}

fn single(chars: &mut Chars<'_>, word: &mut String) -> Result<(), String> {
    for c in chars.by_ref() {
        if c == '\'' {
            return Ok(());
        }
        word.push(c);
    }
    Err("a single quotation mark is not closed".to_owned())
}

fn double(chars: &mut Chars<'_>, word: &mut String) -> Result<(), String> {
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok(()),
            '\\' => match chars.next() {
                Some('\n') => {}
                Some(escaped @ ('"' | '\\' | '$' | '`')) => word.push(escaped),
                Some(other) => word.extend(['\\', other]),
                None => break,
            },
            '$' => dollar(chars, word)?,
            '`' => return Err(no_shell('`')),
            _ => word.push(c),
        }
    }
    Err("a double quotation mark is not closed".to_owned())
}

/// `${name}` stays as it is, for the value to go in, and a lone `$` as well; what a shell would expand is refused.
fn dollar(chars: &mut Chars<'_>, word: &mut String) -> Result<(), String> {
    word.push('$');
    match chars.peek() {
        Some('{') => {}
        Some(c) if c.is_ascii_alphanumeric() || matches!(c, '_' | '(') => {
            return Err(
                "no environment is read in a lifeboat block: pass the value and write ${name}".to_owned()
            );
        }
        _ => return Ok(()),
    }
    for c in chars.by_ref() {
        word.push(c);
        if c == '}' {
            return Ok(());
        }
    }
    Err("a ${ is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_read() {
        let read = http("POST https://x/y?a=${b}\nA: b: c\nEmpty:\n\nline\n\nline\n").unwrap();
        assert_eq!((read.method.as_str(), read.url.as_str()), ("POST", "https://x/y?a=${b}"));
        assert_eq!(read.headers, [("A".to_owned(), "b: c".to_owned()), ("Empty".to_owned(), String::new())]);
        assert_eq!(read.body.as_deref(), Some("line\n\nline"));
        assert_eq!(http("GET ${url}\n").unwrap().body, None);
        for text in ["", "get http://x", "GET", "GET /x", "GET http://x y", "GET http://x\nbad header\n"] {
            assert!(http(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_command_is_split_as_a_shell_does_it() {
        let words = |text: &str| command(text).unwrap();
        assert_eq!(
            words("lifeboat restore users \\\n  --to latest --into '/srv/a b'"),
            ["restore", "users", "--to", "latest", "--into", "/srv/a b"]
        );
        assert_eq!(words(r#"a "b \" \x" c\ d '' "" e'f'"g""#), ["a", r#"b " \x"#, "c d", "", "", "efg"]);
        assert_eq!(words("x ${a b}/y \"${c}\" '${d}' $"), ["x", "${a b}/y", "${c}", "${d}", "$"]);
    }

    #[test]
    fn what_a_shell_would_do_is_refused() {
        for text in [
            "", "lifeboat", "a | b", "a > b", "a; b", "a && b", "a *", "a `b`", "a $(b)", "a $B", "a \"$B\"",
            "a\nb", "a 'b", "a \"b", "a ${b", "a # b", "a \\",
        ] {
            assert!(command(text).is_err(), "{text}");
        }
    }
}
