//! The document as Markdown: which blocks and checklist items are steps, where they stand and what they stand under.
//! Knows what CommonMark says and what attributes look like, and nothing of what they mean.

use crate::attributes::Attributes;
use crate::fault::{Found, cut};
use crate::mark::{at_the_end, attributes_of, is_closed};
use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::ops::Range;

/// What was found in a document.
#[derive(Debug, Default)]
pub(crate) struct Document {
    /// Its first heading.
    pub(crate) title: Option<String>,
    /// Its front matter and the line on which that begins.
    pub(crate) front: Option<(String, u32)>,
    /// What can be carried out, in order.
    pub(crate) pieces: Vec<Piece>,
}

/// A block or an item that is a step.
#[derive(Debug)]
pub(crate) struct Piece {
    pub(crate) line: u32,
    pub(crate) section: Vec<String>,
    /// What it stands under, in people's words.
    pub(crate) under: String,
    pub(crate) attributes: Attributes,
    pub(crate) content: Content,
}

#[derive(Debug)]
pub(crate) enum Content {
    Block { language: String, body: String },
    Item { text: String, ticked: bool },
}

/// Reads a document.
pub(crate) fn read(text: &str, found: &mut Found) -> Document {
    let (front, from) = front(text, found);
    let options = Options::ENABLE_TASKLISTS | Options::ENABLE_TABLES | Options::ENABLE_STRIKETHROUGH;
    let rest = &text[from..];
    let mut walk = Walk::new(text, found);
    walk.document.front = front;
    for (event, range) in Parser::new_ext(rest, options).into_offset_iter() {
        walk.event(event, range.start + from..range.end + from);
    }
    walk.document
}

/// The front matter with its first line, and where the text behind it begins. It is only read at the very beginning.
fn front(text: &str, found: &mut Found) -> (Option<(String, u32)>, usize) {
    let begin = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let mut at = begin;
    let mut lines = text[begin..].split_inclusive('\n');
    let Some(first) = lines.next().filter(|line| line.trim_end() == "---") else { return (None, begin) };
    at += first.len();
    let start = at;
    for line in lines {
        if matches!(line.trim_end(), "---" | "...") {
            return (Some((text[start..at].to_owned(), 2)), at + line.len());
        }
        at += line.len();
    }
    found.hinted(1, "the front matter does not end", "Write a line `---` behind it.");
    (None, text.len())
}

/// So much of a heading is kept: every step below it has it.
const LONGEST_HEADING: usize = 200;

/// Which line a byte is in.
#[derive(Debug, Default)]
struct Lines(Vec<usize>);

impl Lines {
    fn of(text: &str) -> Self {
        Self(text.match_indices('\n').map(|(at, _)| at).collect())
    }

    fn line(&self, at: usize) -> u32 {
        u32::try_from(self.0.partition_point(|end| *end < at))
            .map_or(u32::MAX, |before| before.saturating_add(1))
    }
}

/// Inline text that is being gathered, each part with its place.
type Inline = Vec<(Range<usize>, String)>;

struct Walk<'t, 'f> {
    text: &'t str,
    lines: Lines,
    found: &'f mut Found,
    document: Document,
    headings: Vec<(HeadingLevel, String)>,
    /// The paragraph right before, if nothing has come since.
    paragraph: Option<String>,
    inline: Inline,
    item: Option<Item>,
    block: Option<Block>,
    /// Whether we are in HTML that is no comment: what looks like a step in there is none.
    is_in_html: bool,
}

/// A checklist item whose text is being gathered.
struct Item {
    line: u32,
    ticked: bool,
    start: usize,
}

/// A block of code that is being gathered.
struct Block {
    range: Range<usize>,
    is_fenced: bool,
    under: String,
    body: String,
}

impl<'t, 'f> Walk<'t, 'f> {
    fn new(text: &'t str, found: &'f mut Found) -> Self {
        Self {
            text,
            lines: Lines::of(text),
            found,
            document: Document::default(),
            headings: Vec::new(),
            paragraph: None,
            inline: Inline::new(),
            item: None,
            block: None,
            is_in_html: false,
        }
    }

    fn event(&mut self, event: Event<'_>, range: Range<usize>) {
        match event {
            Event::Start(tag) => self.start(&tag, range),
            Event::End(tag) => self.end(tag),
            Event::TaskListMarker(ticked) => {
                let line = self.lines.line(range.start);
                self.inline.clear();
                self.item = Some(Item { line, ticked, start: range.end });
            }
            Event::Text(text) | Event::Code(text) => self.words(range, &text),
            Event::SoftBreak | Event::HardBreak => self.words(range, " "),
            Event::Html(html) if self.is_in_html => self.hidden(range, &html),
            _ => {}
        }
    }

    fn words(&mut self, range: Range<usize>, text: &str) {
        match &mut self.block {
            Some(block) => block.body.push_str(text),
            None => {
                self.unfenced(range.start);
                self.inline.push((range, text.to_owned()));
            }
        }
    }

    /// A fence of backticks with another one behind it opens no block (CommonMark 0.31.2, 4.5): its lines are prose, and
    /// the fence that should end it begins a block, which holds everything up to the next one.
    fn unfenced(&mut self, start: usize) {
        let line = self.text[start..].lines().next().unwrap_or_default();
        if line.starts_with("```") && line.contains("step=") {
            self.found.hinted(
                self.lines.line(start),
                "a backtick behind a fence of backticks: the block is none",
                "Leave backticks out of its attributes, or write its fences as `~~~`.",
            );
        }
    }

    fn start(&mut self, tag: &Tag<'_>, range: Range<usize>) {
        if !is_block(tag) {
            return;
        }
        self.finish_item();
        self.inline.clear();
        match tag {
            Tag::CodeBlock(kind) => {
                let is_fenced = matches!(kind, CodeBlockKind::Fenced(_));
                self.block = Some(Block { range, is_fenced, under: self.under(), body: String::new() });
            }
            Tag::Item => self.unmarked(range.start),
            Tag::HtmlBlock => {
                let is_comment = self.text[range.start..].trim_start().starts_with("<!--");
                self.is_in_html = !is_comment;
            }
            _ => {}
        }
        self.paragraph = None;
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => self.heading(level),
            TagEnd::Paragraph if self.item.is_none() => {
                self.paragraph = Some(joined(&std::mem::take(&mut self.inline)));
            }
            TagEnd::Paragraph | TagEnd::Item => self.finish_item(),
            TagEnd::CodeBlock => self.finish_block(),
            TagEnd::HtmlBlock => self.is_in_html = false,
            _ => {}
        }
    }

    fn heading(&mut self, level: HeadingLevel) {
        let text = cut(&joined(&std::mem::take(&mut self.inline)), LONGEST_HEADING);
        if self.document.title.is_none() {
            self.document.title = Some(text);
            return;
        }
        self.headings.retain(|(above, _)| *above < level);
        self.headings.push((level, text));
    }

    /// What a block stands under: the paragraph right above it, else its heading.
    fn under(&self) -> String {
        let paragraph = self.paragraph.as_deref().map(first_sentence).filter(|text| !text.is_empty());
        let heading = || self.headings.last().map(|(_, text)| text.clone());
        paragraph.or_else(heading).or_else(|| self.document.title.clone()).unwrap_or_default()
    }

    fn section(&self) -> Vec<String> {
        self.headings.iter().map(|(_, text)| text.clone()).collect()
    }

    fn finish_item(&mut self) {
        let Some(item) = self.item.take() else { return };
        let inline = std::mem::take(&mut self.inline);
        let end = inline.iter().map(|(range, _)| range.end).max().unwrap_or(item.start);
        let raw = &self.text[item.start..end.max(item.start)];
        let (cut, attributes) = match at_the_end(raw, item.line) {
            Ok(found) => found,
            Err(what) => {
                self.found.fault(item.line, what);
                (raw.len(), Attributes::none(item.line))
            }
        };
        let text = joined(&before(inline, item.start + cut));
        if text.is_empty() {
            self.found.fault(item.line, "a checklist item says nothing");
        }
        let content = Content::Item { text: text.clone(), ticked: item.ticked };
        let piece = Piece { line: item.line, section: self.section(), under: text, attributes, content };
        self.document.pieces.push(piece);
    }

    fn finish_block(&mut self) {
        let Some(block) = self.block.take().filter(|block| block.is_fenced) else { return };
        let line = self.lines.line(block.range.start);
        let raw = &self.text[block.range];
        if !is_closed(raw) {
            let what = "the block does not end, and holds everything behind it";
            self.found.hinted(
                line,
                what,
                "Write a line with its fence behind it, not longer and not shorter.",
            );
        }
        let info = raw.lines().next().unwrap_or_default().trim_start_matches(['`', '~']).trim();
        match attributes_of(info, line) {
            Ok(Some((language, attributes))) => {
                let content = Content::Block { language, body: block.body };
                let section = self.section();
                self.document.pieces.push(Piece { line, section, under: block.under, attributes, content });
            }
            Ok(None) => {}
            Err(what) => self.found.fault(line, what),
        }
    }

    /// An item that looks like one of a checklist, and is none.
    fn unmarked(&mut self, start: usize) {
        let item = self.text[start..].trim_start_matches(|c: char| c.is_ascii_digit());
        let item =
            item.strip_prefix(['-', '*', '+', '.', ')']).unwrap_or(item).trim_start_matches([' ', '\t']);
        let looks = [("[ ]", true), ("[x]", true), ("[X]", true), ("[]", false)];
        let Some((mark, may_be)) = looks.iter().find(|(mark, _)| item.starts_with(mark)) else { return };
        let next = item[mark.len()..].chars().next();
        let is_link = matches!(next, Some('(' | '[' | ':'));
        if is_link || (*may_be && next.is_none_or(char::is_whitespace)) {
            return;
        }
        let line = self.lines.line(start);
        self.found.hinted(
            line,
            "the item looks like one of a checklist, and is none",
            "Write it as `- [ ] text`.",
        );
    }

    /// What looks like a step within HTML.
    fn hidden(&mut self, range: Range<usize>, html: &str) {
        for (n, line) in html.lines().enumerate() {
            let line = line.trim_start();
            let is_block = line.starts_with("```") || line.starts_with("~~~");
            if (is_block && line.contains("step=")) || line.starts_with("- [ ] ") {
                let at = self.lines.line(range.start).saturating_add(u32::try_from(n).unwrap_or(u32::MAX));
                let what = "what stands within HTML is no step";
                self.found.hinted(at, what, "Leave an empty line between the HTML and it.");
            }
        }
    }
}

const fn is_block(tag: &Tag<'_>) -> bool {
    matches!(
        tag,
        Tag::Paragraph
            | Tag::Heading { .. }
            | Tag::BlockQuote(_)
            | Tag::CodeBlock(_)
            | Tag::HtmlBlock
            | Tag::List(_)
            | Tag::Item
            | Tag::Table(_)
    )
}

fn joined(inline: &Inline) -> String {
    let text: String = inline.iter().map(|(_, text)| text.as_str()).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The parts up to a place of the document.
fn before(inline: Inline, end: usize) -> Inline {
    let parts = inline.into_iter().filter(|(range, _)| range.start < end);
    let cut = |(range, text): (Range<usize>, String)| match text.get(..end - range.start) {
        Some(part) if range.end > end => (range, part.to_owned()),
        _ => (range, text),
    };
    parts.map(cut).collect()
}

/// What people read first of a paragraph.
fn first_sentence(text: &str) -> String {
    const LONGEST: usize = 120;
    let end = text.find(". ").or_else(|| text.find(": ")).unwrap_or(text.len());
    let sentence = text[..end].trim_end_matches(['.', ':', ' ']);
    cut(sentence, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &str) -> Vec<Piece> {
        let mut found = Found::default();
        let document = read(text, &mut found);
        assert_eq!(found.into_faults(), None, "{text}");
        document.pieces
    }

    fn faults(text: &str) -> String {
        let mut found = Found::default();
        read(text, &mut found);
        found.into_faults().map(|faults| faults.to_string()).unwrap_or_default()
    }

    #[test]
    fn blocks_and_items_are_found_where_they_stand() {
        let text = "---\nowner: a\n---\n# Title\n\n## One\n\nDo it: now.\n\n```bash {step=a}\nls\n```\n\n\
                    ### Two\n\n- [ ] Told *all* of `them` {step=told by=\"a b\"}\n- [x] Done\n  - [ ] Inner {x}\n\n\
                    1. First\n\n   ~~~sql {step=b}\n   select 1;\n\n   select 2;\n   ~~~\n";
        let pieces = pieces(text);
        let lines: Vec<u32> = pieces.iter().map(|piece| piece.line).collect();
        assert_eq!(lines, [10, 16, 17, 18, 22]);
        let under: Vec<&str> = pieces.iter().map(|piece| piece.under.as_str()).collect();
        assert_eq!(under, ["Do it", "Told all of them", "Done", "Inner {x}", "First"]);
        assert_eq!(
            (pieces[0].section.as_slice(), pieces[4].section.len()),
            (["One".to_owned()].as_slice(), 2)
        );
        assert_eq!(pieces[1].attributes.get("by"), Some("a b"));
        let Content::Block { language, body } = &pieces[4].content else { panic!() };
        assert_eq!((language.as_str(), body.as_str()), ("sql", "select 1;\n\nselect 2;\n"));
        assert!(matches!(pieces[2].content, Content::Item { ticked: true, .. }));
    }

    #[test]
    fn everything_else_is_prose() {
        for text in [
            "```bash\nls\n```",
            "```\nls\n```",
            "```bash {1,3}\nls\n```",
            "```bash {title=\"x\"}\nls\n```",
            "````markdown\n```bash {step=a}\nls\n```\n````",
            "    ls {step=a}\n",
            "<!--\n```bash {step=a}\n-->\n",
            "- [](http://x) [ ] a\n- a\n",
        ] {
            assert!(pieces(text).is_empty(), "{text}");
        }
    }

    #[test]
    fn carriage_returns_end_no_word() {
        let pieces =
            pieces("---\r\nowner: a\r\n---\r\n```bash {step=a}\r\nls\r\npwd\r\n```\r\n- [ ] b {step=b}\r\n");
        let Content::Block { body, .. } = &pieces[0].content else { panic!() };
        assert_eq!((body.as_str(), pieces[1].attributes.get("step")), ("ls\npwd\n", Some("b")));
    }

    #[test]
    fn what_would_be_no_step_by_accident_is_said() {
        for (text, part) in [
            ("```bash step=a\nls\n```", "braces"),
            ("```bash {step=a\nls\n```", "no `}`"),
            ("```bash {needs=a}\nls\n```", "no name"),
            ("```bash {step=a} x\nls\n```", "behind the attributes"),
            ("```bash {step=a}\nls\n", "does not end"),
            ("```bash {step=a title=\"see `b`\"}\nls\n```\n\n```bash {step=c}\nls\n```", "a backtick behind"),
            ("1. a\n   ```bash {step=a title=\"see `b`\"}\n   ls\n   ```", "a backtick behind"),
            ("- [] a", "checklist"),
            ("- [ ]a", "checklist"),
            ("- [ ] a {step=b} c", "at the end"),
            ("- [ ] a {step=b c}", "name=value"),
            ("<details>\n```bash {step=a}\nls\n```\n</details>", "HTML"),
            ("---\na: b\n", "does not end"),
        ] {
            assert!(faults(text).contains(part), "{text}: {}", faults(text));
        }
    }
}
