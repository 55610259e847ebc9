//! A plan out of what was found, as text with comments: whoever reads it sees where each entry comes from.
//!
//! What is written parses and lints without contradiction or hazard: where only a person can decide, it says so in
//! a comment and promises nothing.

use crate::found::{Engine, Found, FoundDataset, FoundProbe, FoundService, Sight};
use lifeboat_plan::StoreKind;
use std::fmt::Display;

/// How long a line of a comment is.
const WIDTH: usize = 110;

/// Where a plan keeps recovery points, and where the secret is that opens them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// A path or URL without secrets.
    pub url: String,
    /// `env:NAME`, `file:PATH` or `command:…`.
    pub key: String,
}

impl Default for Kept {
    fn default() -> Self {
        Self { url: "file:./lifeboat-repo".to_owned(), key: "env:LIFEBOAT_PASSPHRASE".to_owned() }
    }
}

impl Kept {
    /// Whether it is a folder, which may lie on the host of the data.
    fn is_folder(&self) -> bool {
        !["s3://", "gs://"].iter().any(|scheme| self.url.starts_with(scheme))
    }
}

/// The plan that suggests itself.
pub fn plan_text(found: &Found, kept: &Kept) -> String {
    let mut plan = Text::default();
    plan.comment("The plan of this system, written by `lifeboat init` from what it saw. Correct what is wrong, then run `lifeboat lint`. docs/plan.md explains every key.");
    plan.line("");
    plan.line("[system]");
    plan.entry("name", &quoted(&found.system));
    repository(&mut plan, kept, &found.host);
    if !found.services.is_empty() {
        plan.line("");
        plan.comment("How fast services must be back. Make a tier for each class of them, and move services between tiers.");
        plan.line("[tiers.standard]");
        plan.entry("rto", "\"4h\"");
    }
    for each in &found.services {
        service(&mut plan, each);
    }
    // What is protected comes first; the order is otherwise that in which it was seen.
    let (protected, others): (Vec<_>, Vec<_>) =
        found.datasets.iter().partition(|each| each.engine.has_driver());
    for each in protected.into_iter().chain(others) {
        dataset(&mut plan, each, &found.host, kept);
    }
    if found.is_empty() {
        example(&mut plan);
    }
    undone(&mut plan, found);
    plan.0
}

fn repository(plan: &mut Text, kept: &Kept, host: &str) {
    plan.line("");
    plan.comment("Where recovery points are kept.");
    if kept.is_folder() {
        plan.comment("A folder of this host is lost with this host: it is enough to begin with and to rehearse. Before you rely on it, put it elsewhere (s3://bucket/prefix?region=…, or a folder of another host), or add a copy. Where the hosts of the repository and of a dataset are stated, lint says what is lost with them.");
    }
    plan.line("[repository]");
    plan.entry("url", &quoted(&kept.url));
    plan.entry("key", &quoted(&kept.key));
    if kept.is_folder() {
        plan.host(host, kept);
    }
    plan.line("");
    plan.line("# [[copies]]");
    plan.line("# url = \"s3://bucket/prefix?region=…\"");
    plan.line("# key = \"env:LIFEBOAT_COPY_PASSPHRASE\"");
}

fn service(plan: &mut Text, service: &FoundService) {
    plan.line("");
    plan.seen(&service.seen);
    for remark in &service.remarks {
        plan.comment(&sentence(remark));
    }
    if !service.needs_unprotected.is_empty() {
        let needs = service.needs_unprotected.join(", ");
        plan.comment(&format!("It also needs {needs}, which no driver protects yet."));
    }
    plan.line(&format!("[services.{}]", service.name));
    plan.entry("tier", "\"standard\"");
    if !service.needs.is_empty() {
        plan.entry("needs", &list(service.needs.iter().map(|need| quoted(need))));
    }
    if let Some(probe) = &service.probe {
        plan.entry("probe", &probe_value(probe));
    }
    if !service.ports.is_empty() {
        plan.entry("ports", &list(service.ports.iter().map(ToString::to_string)));
    }
}

fn probe_value(probe: &FoundProbe) -> String {
    let url = quoted(&probe.url);
    let parts = [
        probe.interval.map(|span| format!("interval = \"{span}\"")),
        probe.timeout.map(|span| format!("timeout = \"{span}\"")),
        probe.failures.map(|count| format!("failures = {count}")),
        probe.successes.map(|count| format!("successes = {count}")),
        probe.start_period.map(|span| format!("start_period = \"{span}\"")),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { url } else { format!("{{ url = {url}, {} }}", parts.join(", ")) }
}

fn dataset(plan: &mut Text, dataset: &FoundDataset, host: &str, kept: &Kept) {
    plan.line("");
    plan.seen(&dataset.seen);
    for remark in &dataset.remarks {
        plan.comment(&sentence(remark));
    }
    if !dataset.engine.has_driver() {
        return without_driver(plan, dataset);
    }
    plan.line(&format!("[datasets.{}]", dataset.name));
    plan.entry("store", &quoted(&dataset.store));
    let kind = dataset.engine.kind().filter(|kind| StoreKind::of(&dataset.store) != Some(*kind));
    if let Some(kind) = kind {
        plan.entry("kind", &quoted(kind.word()));
    }
    if matches!(dataset.engine, Engine::Sqlite | Engine::Files) {
        plan.host(host, kept);
    }
    if !dataset.exclude.is_empty() {
        plan.comment("The databases in it, and what their servers write, are no files to copy.");
        plan.entry("exclude", &list(dataset.exclude.iter().map(|pattern| quoted(pattern))));
    }
    if !dataset.names.is_empty() {
        plan.entry("names", &list(dataset.names.iter().map(|name| quoted(name))));
    }
    plan.entry("rpo", "\"1h\"");
    if dataset.engine == Engine::Postgres {
        plan.comment("The log is followed: the role needs the attribute `replication` (docs/postgres.md). A new snapshot every day keeps what must be replayed short.");
        plan.entry("protect", "{ mode = \"continuous\", every = \"1d\" }");
        plan.entry("retain", "{ daily = 7, weekly = 4, monthly = 12, at_least = 1, window = \"7d\" }");
    } else {
        plan.comment("Every 30m and not every 1h: what a snapshot takes counts as well.");
        plan.entry("protect", "{ every = \"30m\" }");
        plan.entry("retain", "{ hourly = 24, daily = 7, weekly = 4, monthly = 12, at_least = 1 }");
    }
    plan.entry("prove", "{ every = \"1d\" }");
}

/// In a comment: a plan that named it would fail at every backup.
fn without_driver(plan: &mut Text, dataset: &FoundDataset) {
    let word = dataset.engine.word();
    let dump = format!(" A dump can be piped into `lifeboat backup --stdin --name {}`.", dataset.name);
    let dump = if dataset.engine == Engine::Bucket { "" } else { &dump };
    plan.comment(&format!("This release has no driver for {word}, so nothing protects it.{dump}"));
    let is_writable = dataset.engine.kind().is_some()
        && (dataset.store.starts_with("env:") || StoreKind::of(&dataset.store) == dataset.engine.kind());
    if !is_writable {
        return;
    }
    plan.line(&format!("# [datasets.{}]", dataset.name));
    plan.line(&format!("# store = {}", quoted(&dataset.store)));
    if StoreKind::of(&dataset.store) != dataset.engine.kind() {
        plan.line(&format!("# kind = {}", quoted(word)));
    }
    plan.line("# rpo = \"1h\"");
}

fn example(plan: &mut Text) {
    plan.line("");
    plan.comment("Nothing was found here. A dataset looks like this:");
    for line in [
        "[datasets.users]",
        "store = \"env:DATABASE_URL\"     # or a folder, or a SQLite database",
        "kind = \"postgres\"",
        "rpo = \"1h\"",
        "protect = { mode = \"continuous\", every = \"1d\" }",
        "retain = { daily = 7, weekly = 4, monthly = 12, at_least = 1, window = \"7d\" }",
        "prove = { every = \"1d\" }",
    ] {
        plan.line(&format!("# {line}"));
    }
}

fn undone(plan: &mut Text, found: &Found) {
    if found.undone.is_empty() {
        return;
    }
    plan.line("");
    plan.comment("Also seen, and not in this plan:");
    for each in &found.undone {
        plan.comment(&format!("- {}, seen in {}. {}", each.what, joined(&each.seen), sentence(&each.why)));
    }
}

fn joined(items: &[impl Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Begins with a capital and ends with a full stop.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first: String = characters.next().map(|c| c.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", characters.as_str())
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.collect::<Vec<_>>().join(", "))
}

/// A basic string of TOML (<https://toml.io/en/v1.0.0#string>).
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// The text so far.
#[derive(Default)]
struct Text(String);

impl Text {
    fn line(&mut self, line: &str) {
        self.0.push_str(line);
        self.0.push('\n');
    }

    fn entry(&mut self, key: &str, value: &str) {
        self.line(&format!("{key} = {value}"));
    }

    /// The host of something that lies on it; in a comment, where it cannot be told whether the repository does too.
    fn host(&mut self, host: &str, kept: &Kept) {
        let hidden = if kept.is_folder() { "# " } else { "" };
        self.line(&format!("{hidden}host = {}", quoted(host)));
    }

    fn seen(&mut self, seen: &[Sight]) {
        self.comment(&format!("Seen in {}", joined(seen)));
    }

    /// Lines of a comment. What would end one, or is not seen, is replaced.
    fn comment(&mut self, text: &str) {
        let text = text.replace(char::is_control, "\u{fffd}");
        let mut line = String::from("#");
        for word in text.split(' ') {
            if line.len() > 1 && line.chars().count() + 1 + word.chars().count() > WIDTH {
                self.line(&line);
                line = String::from("#");
            }
            line.push(' ');
            line.push_str(word);
        }
        self.line(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lifeboat_plan::Plan;

    #[test]
    fn nothing_that_was_seen_can_break_out_of_its_place() {
        let hostile = "a\"b\\c\n[datasets.evil]\nstore = \"x\"\r\u{1b}[31m\u{7f}\u{2028}";
        let dataset = FoundDataset {
            name: "data".to_owned(),
            engine: Engine::Files,
            store: hostile.to_owned(),
            exclude: vec![hostile.to_owned()],
            names: vec![hostile.to_owned()],
            remarks: vec![hostile.to_owned()],
            seen: vec![Sight::Path(hostile.to_owned())],
        };
        let found = Found {
            system: hostile.to_owned(),
            host: hostile.to_owned(),
            datasets: vec![dataset],
            ..Found::default()
        };
        let plan = Plan::parse(&plan_text(&found, &Kept::default()), "p.toml").unwrap();
        assert_eq!(plan.datasets.len(), 1);
        assert_eq!(plan.datasets["data"].store, hostile);
        assert_eq!(plan.system.unwrap().name, hostile);
    }

    #[test]
    fn a_plan_of_nothing_is_a_plan() {
        let plan = Plan::parse(&plan_text(&Found::default(), &Kept::default()), "p.toml").unwrap();
        assert!(plan.datasets.is_empty() && plan.repository.is_some());
    }
}
