//! A script as a careful reader sees it: its commands, word by word, also those in `$(…)`. No shell: what is not
//! understood is a word.

/// One command of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Command {
    pub(super) words: Vec<Word>,
    /// What it stands behind: `||`, `|`, `&&`, or nothing of these.
    pub(super) behind: &'static str,
    /// Whether what it prints goes into another command.
    pub(super) is_piped: bool,
}

/// A word without its quotation marks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) text: String,
    /// Whether a pattern in it is not quoted.
    pub(super) is_pattern: bool,
}

impl Command {
    /// Its first word, without a path.
    pub(super) fn name(&self) -> &str {
        self.words.iter().map(Word::name).find(|name| !is_wrapper(name)).unwrap_or_default()
    }

    /// The words behind a program, whatever stands before it (`sudo`, `docker exec x`, …).
    pub(super) fn behind(&self, program: &str) -> Option<&[Word]> {
        let at = self.words.iter().position(|word| word.name() == program)?;
        self.words.get(at + 1..)
    }

    /// All of it on one line.
    pub(super) fn text(&self) -> String {
        self.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// What stands before a command and is none: `if`, `!`, `sudo`, `A=b`.
fn is_wrapper(name: &str) -> bool {
    const BEFORE: &[&str] = &[
        "if", "then", "else", "elif", "while", "until", "do", "done", "fi", "!", "sudo", "time", "{", "}",
        "env",
    ];
    BEFORE.contains(&name) || is_assignment(name)
}

fn is_assignment(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    })
}

impl Word {
    /// The word without a path before it, where it is the name of a program.
    pub(super) fn name(&self) -> &str {
        if is_assignment(&self.text) {
            return &self.text;
        }
        self.text.rsplit('/').next().unwrap_or_default()
    }
}

/// The commands of a script, those within `$(…)` behind the one that they are in.
pub(super) fn commands(script: &str) -> Vec<Command> {
    let mut reader = Reader::default();
    reader.read(script, 0);
    reader.all
}

/// How deep `$(…)` is followed.
const DEEPEST: usize = 8;

#[derive(Default)]
struct Reader {
    all: Vec<Command>,
    now: Command,
    word: Option<Word>,
    inner: Vec<String>,
}

impl Reader {
    fn read(&mut self, script: &str, depth: usize) {
        let mut chars = script.chars().peekable();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next() {
                    Some('\n') | None => {}
                    Some(escaped) => self.word().text.push(escaped),
                },
                '\'' => self.word().text.extend(chars.by_ref().take_while(|c| *c != '\'')),
                '"' => self.double(&mut chars),
                '$' if chars.peek() == Some(&'(') => self.substitution(&mut chars),
                '`' => {
                    let inner = chars.by_ref().take_while(|c| *c != '`').collect();
                    self.inner.push(inner);
                    self.word();
                }
                '#' if self.word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
                '|' | '&' if chars.peek() == Some(&c) => {
                    chars.next();
                    self.end(if c == '|' { "||" } else { "&&" }, depth);
                }
                '|' => {
                    self.now.is_piped = true;
                    self.end("|", depth);
                }
                '&' if chars.peek() == Some(&'>')
                    || self.word.as_ref().is_some_and(|w| w.text.ends_with('>')) =>
                {
                    self.word().text.push('&');
                }
                '\n' | ';' | '&' | '(' | ')' => self.end("", depth),
                '>' | '<' => self.redirect(c, &mut chars),
                _ if c.is_whitespace() => self.end_word(),
                _ => {
                    let word = self.word();
                    word.text.push(c);
                    word.is_pattern |= matches!(c, '*' | '?');
                }
            }
        }
        self.end("", depth);
    }

    fn word(&mut self) -> &mut Word {
        self.word.get_or_insert_default()
    }

    fn end_word(&mut self) {
        self.now.words.extend(self.word.take());
    }

    /// A redirection and its file are one word: `2>/dev/null`.
    fn redirect(&mut self, c: char, chars: &mut Chars<'_>) {
        // `2>`, `>&`, `>>`: nothing longer.
        let is_number = |word: &Word| {
            word.text.len() <= 4 && word.text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'&' | b'>'))
        };
        if !self.word.as_ref().is_some_and(is_number) {
            self.end_word();
        }
        self.word().text.push(c);
        while chars.next_if(|c| *c == ' ').is_some() {}
    }

    fn double(&mut self, chars: &mut Chars<'_>) {
        self.word();
        while let Some(c) = chars.next() {
            match c {
                '"' => return,
                '\\' => self.word().text.extend(chars.next()),
                '$' if chars.peek() == Some(&'(') => self.substitution(chars),
                _ => self.word().text.push(c),
            }
        }
    }

    /// Takes `$(…)` out of a word, to be read behind its command.
    fn substitution(&mut self, chars: &mut Chars<'_>) {
        self.word().text.push_str("$()");
        let (mut depth, mut inner) = (0_usize, String::new());
        for c in chars.by_ref() {
            match c {
                '(' => depth += 1,
                ')' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            inner.push(c);
        }
        self.inner.push(inner.split_off(1.min(inner.len())));
    }

    fn end(&mut self, next: &'static str, depth: usize) {
        self.end_word();
        let command = std::mem::take(&mut self.now);
        self.now.behind = next;
        if command.words.is_empty() {
            return;
        }
        self.all.push(command);
        for inner in std::mem::take(&mut self.inner) {
            if depth < DEEPEST {
                let mut reader = Self::default();
                reader.read(&inner, depth + 1);
                self.all.append(&mut reader.all);
            }
        }
    }
}

type Chars<'t> = std::iter::Peekable<std::str::Chars<'t>>;

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(script: &str) -> Vec<String> {
        commands(script).iter().map(Command::text).collect()
    }

    #[test]
    fn commands_are_found() {
        assert_eq!(texts("a 'b c' && d | e # f\n  g \\\n h;i"), ["a b c", "d", "e", "g h", "i"]);
        assert_eq!(texts("[ \"$(psql -c \"select (1)\")\" = 1 ]"), ["[ $() = 1 ]", "psql -c select (1)"]);
        assert_eq!(texts("x=$(a $(b))\n`c`"), ["x=$()", "a $()", "b", "", "c"]);
        assert_eq!(texts("a > /dev/null 2>&1 || true"), ["a >/dev/null 2>&1", "true"]);
        assert_eq!(texts("a &> /dev/null"), ["a &>/dev/null"]);
        assert_eq!(texts("'open"), ["open"]);
    }

    #[test]
    fn what_stands_around_a_command_is_seen() {
        let read = commands("if ! sudo A=b /usr/bin/rm -rf x; then gunzip -t y | z || :; fi");
        let names: Vec<&str> = read.iter().map(Command::name).collect();
        assert_eq!(names, ["rm", "gunzip", "z", ":", ""]);
        assert_eq!((read[1].is_piped, read[2].behind, read[3].behind), (true, "|", "||"));
        assert!(commands("sqlite3 a_*.db x")[0].words[1].is_pattern);
        assert!(!commands("sqlite3 'a_*.db' x")[0].words[1].is_pattern);
    }

    #[test]
    fn depth_has_an_end() {
        commands(&"$(".repeat(10_000));
        commands(&"\"$(".repeat(10_000));
        commands(&"a$(b".repeat(10_000));
    }
}
