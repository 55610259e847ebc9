//! Lines that never are too long, and a screen that never has too many of them: what matters least is left out first.

use rustix::termios::tcgetwinsize;
use std::io;

/// What fits wherever people look at it.
const COLUMNS: usize = 80;
/// So wide is what a line is about.
const MARGIN: usize = 12;
/// Nothing can be read in less.
const LEAST: (usize, usize) = (40, 6);

/// How much there is room for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    columns: usize,
    rows: Option<usize>,
}

impl Room {
    /// Wherever lines go on below.
    pub(super) const fn without_end() -> Self {
        Self { columns: COLUMNS, rows: None }
    }

    /// On the terminal that we write to, beside so many rows of other things.
    pub(super) fn on_terminal(others: usize) -> Self {
        let Ok(size) = tcgetwinsize(io::stdout()) else { return Self::without_end() };
        let (columns, rows) = (usize::from(size.ws_col), usize::from(size.ws_row));
        Self {
            columns: if columns == 0 { COLUMNS } else { columns.clamp(LEAST.0, COLUMNS) },
            rows: (rows > 0).then(|| rows.saturating_sub(others).max(LEAST.1)),
        }
    }
}

/// What a line is, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    Head,
    Needed,
    Now,
    NoWayBack,
    Told,
    Next,
    News,
}

/// A page that is being written.
pub(super) struct Page {
    room: Room,
    part: Part,
    lines: Vec<(Part, String)>,
}

impl Page {
    pub(super) const fn new(room: Room) -> Self {
        Self { room, part: Part::Head, lines: Vec::new() }
    }

    /// What the next lines are.
    pub(super) fn part(&mut self, part: Part) -> &mut Self {
        self.part = part;
        self
    }

    pub(super) fn gap(&mut self) {
        self.lines.push((self.part, String::new()));
    }

    pub(super) fn line(&mut self, text: &str) {
        self.wrapped("", text, 0);
    }

    /// What it is about in the margin, once.
    pub(super) fn about(&mut self, what: &str, text: &str) {
        if !text.is_empty() {
            self.wrapped(what, text, MARGIN);
        }
    }

    pub(super) fn list(&mut self, what: &str, lines: impl Iterator<Item = String>) {
        let mut what = what;
        for line in lines {
            self.about(what, &line);
            what = "";
        }
    }

    fn wrapped(&mut self, what: &str, text: &str, margin: usize) {
        let mut what = what;
        for line in wrap(text, self.room.columns - margin) {
            self.lines.push((self.part, format!("{what:<margin$}{line}")));
            what = "";
        }
    }

    /// The whole page; where there is no room for it, without what matters least, and with where the rest is to be seen.
    pub(super) fn text(mut self, rest: &str) -> String {
        let left_out = self.room.rows.map_or(0, |rows| self.leave_out(rows));
        let mut text: String = self.lines.into_iter().map(|(_, line)| line + "\n").collect();
        if left_out > 0 {
            text += &format!("… {left_out} more lines: {rest}\n");
        }
        text
    }

    /// Leaves lines out until there is room for the others and for one that says so; how many.
    fn leave_out(&mut self, rows: usize) -> usize {
        let before = self.lines.len();
        while before > rows && self.lines.len() >= rows {
            let Some(least) =
                self.lines.iter().map(|(part, _)| *part).max().filter(|part| *part > Part::Head)
            else {
                break;
            };
            let is_least = |line: &(Part, String)| line.0 == least;
            // Of what happened the newest stays, of a list its beginning.
            let place = match least {
                Part::News => self.lines.iter().position(is_least),
                _ => self.lines.iter().rposition(is_least),
            };
            self.lines.remove(place.unwrap_or_default());
        }
        before - self.lines.len()
    }
}

/// A text in which every character can be seen: what would move the cursor, hide or turn what stands beside it is
/// written out. What people agree to is shown so, whoever put it there.
pub(super) fn visible(text: &str) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
            || matches!(c, '\u{2060}'..='\u{206f}' | '\u{feff}')
    };
    let mut shown = String::new();
    for c in text.chars() {
        if hides(c) { shown.extend(c.escape_unicode()) } else { shown.push(c) }
    }
    shown
}

/// A text in lines of at most so many characters, cut between words where that can be. Control characters do nothing.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut length) = (Vec::new(), String::new(), 0);
    for word in text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty()) {
        let mut rest: Vec<char> = word.chars().collect();
        if length > 0 && length + 1 + rest.len() > width {
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        if length > 0 {
            line.push(' ');
            length += 1;
        }
        while rest.len() > width - length {
            line.extend(rest.drain(..width - length));
            lines.push(std::mem::take(&mut line));
            length = 0;
        }
        length += rest.len();
        line.extend(rest);
    }
    if length > 0 {
        lines.push(line);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_no_room_what_matters_least_is_left_out() {
        let mut page = Page::new(Room { columns: 80, rows: Some(6) });
        page.line("title");
        page.part(Part::Next).list("next", (1..=3).map(|n| format!("step {n}")));
        page.part(Part::Needed).list("needs you", (1..=3).map(|n| format!("person {n}")));
        page.part(Part::News).gap();
        (1..=3).for_each(|n| page.line(&format!("news {n}")));
        let text = page.text("look");
        let expected = "title\nnext        step 1\nneeds you   person 1\n            person 2\n            person 3\n… 6 more lines: look\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn where_there_is_room_everything_stays() {
        let mut page = Page::new(Room { columns: 80, rows: Some(2) });
        page.line("one");
        page.part(Part::News).line("two");
        assert_eq!(page.text("look"), "one\ntwo\n");
    }

    #[test]
    fn no_line_is_too_long_and_no_word_is_lost() {
        let text = format!("{} {} a\u{1b}[2Jb", "word ".repeat(40), "x".repeat(200));
        let lines = wrap(&text, 20);
        assert!(lines.iter().all(|line| line.chars().count() <= 20 && !line.contains('\u{1b}')), "{lines:?}");
        let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).count();
        assert_eq!(letters(&lines.concat()), letters(&text));
    }
}
