//! What a message says: the built-in text, or the user's own template (minijinja).
//!
//! A template sees `system`, `kind`, `kind_words`, `phase`, `about`, `what`, `severity`, `since`, `at` and `lasted`,
//! and nothing else. One that fails is said in the message itself, under the built-in text: people are told in any case.

use crate::event::{Event, Kind, Phase};
use lifeboat_base::clock::Timestamp;
use minijinja::{Environment, UndefinedBehavior, Value};
use std::time::Duration;

/// So many characters of a subject are kept.
const SUBJECT_MAX: usize = 200;
/// So many characters of a body are kept.
const BODY_MAX: usize = 64 * 1024;
/// So many instructions may a template take: far more than a text needs, far less than anybody would wait for.
const FUEL: u64 = 100_000;

/// A user's own texts; the built-in ones where there are none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Templates {
    /// One line.
    pub subject: Option<String>,
    /// The text.
    pub body: Option<String>,
}

/// What a template may use.
#[derive(Clone, Debug)]
struct Fields<'a> {
    system: &'a str,
    kind: &'static str,
    kind_words: &'static str,
    phase: &'static str,
    about: &'a str,
    what: &'a str,
    severity: &'a str,
    since: String,
    at: String,
    lasted: String,
}

impl Fields<'_> {
    fn value(&self) -> Value {
        Value::from_pairs([
            ("system", self.system),
            ("kind", self.kind),
            ("kind_words", self.kind_words),
            ("phase", self.phase),
            ("about", self.about),
            ("what", self.what),
            ("severity", self.severity),
            ("since", self.since.as_str()),
            ("at", self.at.as_str()),
            ("lasted", self.lasted.as_str()),
        ])
    }
}

/// A text, and what is wrong with the template that should have made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    pub(crate) subject: String,
    pub(crate) body: String,
    pub(crate) problem: Option<String>,
}

/// A template that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the template of the {part}")]
pub struct TemplateError {
    /// `subject` or `body`.
    pub part: &'static str,
    /// What is wrong with it.
    #[source]
    pub source: minijinja::Error,
}

impl lifeboat_base::Hint for TemplateError {
    fn hint(&self) -> Option<String> {
        Some(
            "A template sees system, kind, kind_words, phase, about, what, severity, since, at and lasted; \
             docs/notifications.md has an example."
                .to_owned(),
        )
    }
}

impl Templates {
    /// Renders them for an event that was made up, so that a faulty one is found before it is needed.
    ///
    /// # Errors
    /// With the first one that fails.
    pub fn check(&self) -> Result<(), TemplateError> {
        let event = Event {
            key: "check".to_owned(),
            kind: Kind::Test,
            about: "a dataset".to_owned(),
            what: "nothing is wrong".to_owned(),
            severity: None,
        };
        let at = Timestamp::from_secs(0);
        let fields = fields("a system", &event, Phase::Once, at, at);
        for (part, template) in [("subject", &self.subject), ("body", &self.body)] {
            if let Some(template) = template {
                run(part, template, &fields)?;
            }
        }
        Ok(())
    }

    pub(crate) fn render(
        &self,
        system: &str,
        event: &Event,
        phase: Phase,
        since: Timestamp,
        at: Timestamp,
    ) -> Rendered {
        let fields = fields(system, event, phase, since, at);
        let (subject, first) = part("subject", self.subject.as_deref(), &fields, built_in_subject);
        let (mut body, second) = part("body", self.body.as_deref(), &fields, built_in_body);
        let problem = first.or(second);
        if let Some(problem) = &problem {
            body.push_str(&format!("\n(This is the built-in text, since {problem}.)\n"));
        }
        Rendered { subject: one_line(&subject), body: body.chars().take(BODY_MAX).collect(), problem }
    }
}

fn fields<'a>(
    system: &'a str,
    event: &'a Event,
    phase: Phase,
    since: Timestamp,
    at: Timestamp,
) -> Fields<'a> {
    Fields {
        system,
        kind: event.kind.as_str(),
        kind_words: event.kind.words(),
        phase: phase.as_str(),
        about: &event.about,
        what: &event.what,
        severity: event.severity.as_deref().unwrap_or_default(),
        since: since.to_string(),
        at: at.to_string(),
        lasted: words(at.since(since)),
    }
}

fn part(
    name: &'static str,
    template: Option<&str>,
    fields: &Fields<'_>,
    built_in: fn(&Fields<'_>) -> String,
) -> (String, Option<String>) {
    match template.map(|template| run(name, template, fields)) {
        None => (built_in(fields), None),
        Some(Ok(text)) => (text, None),
        Some(Err(error)) => (built_in(fields), Some(lifeboat_base::report(&error))),
    }
}

fn run(part: &'static str, template: &str, fields: &Fields<'_>) -> Result<String, TemplateError> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    let rendered = environment.render_str(template, fields.value());
    rendered.map_err(|source| TemplateError { part, source })
}

fn built_in_subject(fields: &Fields<'_>) -> String {
    if fields.kind == Kind::PeopleNeeded.as_str() {
        return subject_to_people(fields);
    }
    let phase = match fields.phase {
        "reminder" => "still: ",
        "recovered" => "over: ",
        _ => "",
    };
    format!("[{}] {}{phase}{}: {}", fields.system, severity(fields), fields.kind_words, fields.about)
}

fn severity(fields: &Fields<'_>) -> String {
    if fields.severity.is_empty() { String::new() } else { format!("{} ", fields.severity) }
}

/// What is needed of whom stands in `about`: nothing is said before it that a small screen would cut it off for.
fn subject_to_people(fields: &Fields<'_>) -> String {
    let phase = match fields.phase {
        "reminder" => "still: ",
        "recovered" => "settled: ",
        _ => "",
    };
    format!("[{}] {}{phase}{}", fields.system, severity(fields), fields.about)
}

fn built_in_body(fields: &Fields<'_>) -> String {
    let Fields { system, about, what, since, at, lasted, .. } = fields;
    if fields.kind == Kind::PeopleNeeded.as_str() {
        return format!("{about}\n\n{what}\n");
    }
    let state = match fields.phase {
        "began" => format!("Since {since}."),
        "reminder" => format!("Since {since}, for {lasted}."),
        "recovered" => format!("It is over. It lasted {lasted}, from {since} to {at}."),
        _ => format!("At {at}."),
    };
    let next = match fields.phase {
        "began" | "reminder" => "\nRun `lifeboat status` to see how everything stands now.\n",
        _ => "",
    };
    format!("{system}: {about}: {what}.\n\n{state}\n{next}")
}

/// Nothing in a subject may end the line: what follows would be a header of its own.
fn one_line(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let line: String = spaced.take(SUBJECT_MAX).collect();
    line.trim().to_owned()
}

fn words(duration: Duration) -> String {
    let whole = duration.as_secs();
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min", whole / 60),
        3600..86_400 => format!("{} h {} min", whole / 3600, whole / 60 % 60),
        _ => format!("{} d {} h", whole / 86_400, whole / 3600 % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event() -> Event {
        Event {
            key: "breach users host".to_owned(),
            kind: Kind::Breach,
            about: "users".to_owned(),
            what: "if the host fails now, 1m 30s are lost; 1m 0s may be".to_owned(),
            severity: Some("P1".to_owned()),
        }
    }

    fn rendered(templates: &Templates, event: &Event, phase: Phase) -> Rendered {
        let at = Timestamp::from_secs(1_800_000_000);
        templates.render("aragora", event, phase, at.minus(Duration::from_secs(3720)), at)
    }

    fn own(subject: &str, body: &str) -> Templates {
        Templates { subject: Some(subject.to_owned()), body: Some(body.to_owned()) }
    }

    #[test]
    fn the_built_in_texts_say_what_where_and_since_when() {
        let templates = Templates::default();
        let began = rendered(&templates, &event(), Phase::Began);
        assert_eq!(began.subject, "[aragora] P1 objective missed: users");
        assert_eq!(
            began.body,
            "aragora: users: if the host fails now, 1m 30s are lost; 1m 0s may be.\n\n\
             Since 2027-01-15T06:58:00Z.\n\nRun `lifeboat status` to see how everything stands now.\n"
        );
        let over = rendered(&templates, &event(), Phase::Recovered);
        assert_eq!(over.subject, "[aragora] P1 over: objective missed: users");
        assert!(over.body.contains("It lasted 1 h 2 min"), "{}", over.body);
        assert!(rendered(&templates, &event(), Phase::Reminder).subject.contains("still: "));
    }

    #[test]
    fn who_is_needed_reads_that_first() {
        let needed = Event { kind: Kind::PeopleNeeded, about: "ann must agree".to_owned(), ..event() };
        let began = rendered(&Templates::default(), &needed, Phase::Began);
        assert_eq!(began.subject, "[aragora] P1 ann must agree");
        assert!(began.body.starts_with("ann must agree\n\nif the host"), "{}", began.body);
        for (phase, subject) in [(Phase::Reminder, "still"), (Phase::Recovered, "settled")] {
            let text = rendered(&Templates::default(), &needed, phase);
            assert_eq!(text.subject, format!("[aragora] P1 {subject}: ann must agree"));
        }
    }

    #[test]
    fn a_template_sees_the_fields_and_nothing_else() {
        let templates =
            own("{{ severity }} {{ about }} {{ phase }}", "{% if kind == 'breach' %}{{ what }}{% endif %}");
        let text = rendered(&templates, &event(), Phase::Began);
        assert_eq!((text.subject.as_str(), text.problem), ("P1 users began", None));
        assert_eq!(text.body, event().what);
        for template in
            ["{{ key }}", "{{ secret }}", "{{ what", "{% include 'other' %}", "{{ about.name.x }}"]
        {
            let text = rendered(&own("{{ about }}", template), &event(), Phase::Began);
            let problem = text.problem.unwrap();
            assert!(problem.starts_with("the template of the body: "), "{problem}");
            assert!(
                text.body.starts_with("aragora: users: if") && text.body.contains(&problem),
                "{}",
                text.body
            );
            assert!(own("", template).check().is_err(), "{template}");
        }
        assert!(templates.check().is_ok());
    }

    #[test]
    fn a_template_that_does_not_end_is_stopped() {
        let endless =
            own("{% for i in range(9999) %}{% for j in range(9999) %}x{% endfor %}{% endfor %}", "b");
        let text = rendered(&endless, &event(), Phase::Began);
        assert!(text.problem.is_some());
        assert_eq!(text.subject, "[aragora] P1 objective missed: users");
    }

    #[test]
    fn a_subject_is_one_line_and_a_body_is_bounded() {
        let mut event = event();
        event.about = "users\r\nBcc: everybody@example.org".to_owned();
        let text = rendered(&Templates::default(), &event, Phase::Began);
        assert!(!text.subject.contains(['\r', '\n']), "{:?}", text.subject);
        event.what = "x".repeat(1 << 20);
        let text = rendered(&own("{{ what }}", "{{ what }}"), &event, Phase::Began);
        assert_eq!((text.subject.len(), text.body.len()), (SUBJECT_MAX, BODY_MAX));
    }
}
