//! What is agreed among people: scales, times and addresses that must fit together.

use super::Found;
use super::finding::{Finding, Rule};
use super::sum::listed;
use super::view::View;
use crate::part;
use crate::people::rank;
use crate::span::Span;
use std::collections::BTreeMap;

/// `two-scales`: an incident of a level has no severity, hence no time of response, until something says which.
pub(super) fn scales(view: &View<'_>, found: &mut Found) {
    if view.plan.severities.is_empty() {
        return;
    }
    let unmapped = view.plan.levels.iter().filter(|(_, level)| level.severity.is_none());
    let unmapped: Vec<&str> = unmapped.map(|(name, _)| name.as_str()).collect();
    if let Some(first) = unmapped.first() {
        let severities: Vec<&str> = view.plan.severities.keys().map(String::as_str).collect();
        let what = format!(
            "there are two scales, severities ({}) and levels ({}), and nothing says which severity a level is",
            severities.join(", "),
            unmapped.join(", ")
        );
        let key = format!("levels.{}", part(first));
        let hint = format!("State `{key}.severity`, and that of the other levels.");
        found.push(Finding::hazard(Rule::TwoScales, key, what).hint(hint));
    }
}

/// `response-order`: what is more severe is answered no later.
pub(super) fn responses(view: &View<'_>, found: &mut Found) {
    let ranked = view
        .plan
        .severities
        .iter()
        .filter_map(|(name, severity)| Some((rank(name)?, name, severity.response)));
    let mut ranked: Vec<(u64, &String, Span)> = ranked.collect();
    ranked.sort_unstable();
    for pair in ranked.windows(2) {
        let [(worse, severe, late), (rank, mild, soon)] = pair else { continue };
        if worse < rank && late > soon {
            let what = format!(
                "{severe} is answered within {late}, and {mild}, which is less severe, within {soon}"
            );
            let key = format!("severities.{}.response", part(severe));
            found.push(
                Finding::contradiction(Rule::ResponseOrder, key, what)
                    .hint("Answer the more severe one first."),
            );
        }
    }
}

/// `escalation-late`: somebody must be told before somebody must be at it.
pub(super) fn escalation(view: &View<'_>, found: &mut Found) {
    let steps = view.plan.escalation.iter().map(|step| (step.from.as_deref(), step.after));
    let contacts =
        view.plan.contacts.values().filter_map(|contact| Some((contact.from.as_deref(), contact.after?)));
    let told: Vec<(Option<&str>, Span)> = steps.chain(contacts).collect();
    if told.is_empty() {
        return;
    }
    let first = First::of(&told);
    for (name, severity) in &view.plan.severities {
        let response = severity.response;
        let key = format!("severities.{}.response", part(name));
        let what = match first.told(name) {
            Some(after) if after <= response => continue,
            Some(after) => {
                format!("somebody must be at a {name} within {response}, and the first is told after {after}")
            }
            None => format!("somebody must be at a {name} within {response}, and nobody is ever told of one"),
        };
        let hint = "Begin the escalation with somebody who is told at once: after = \"0s\".";
        found.push(Finding::contradiction(Rule::EscalationLate, key, what).hint(hint));
    }
}

/// When the first is told of an incident, by its severity.
struct First<'a> {
    of_any: Option<Span>,
    of_one: BTreeMap<&'a str, Span>,
    /// By how severe an incident must at least be: the earliest of those and of the less severe.
    of_rank: BTreeMap<u64, Span>,
}

impl<'a> First<'a> {
    fn of(told: &[(Option<&'a str>, Span)]) -> Self {
        let of_any = told.iter().filter(|(from, _)| from.is_none()).map(|(_, after)| *after).min();
        let (mut of_one, mut of_rank) = (BTreeMap::new(), BTreeMap::new());
        for (from, after) in told.iter().filter_map(|(from, after)| Some(((*from)?, *after))) {
            let known: &mut Span = of_one.entry(from).or_insert(after);
            *known = after.min(*known);
            if let Some(rank) = rank(from) {
                let known: &mut Span = of_rank.entry(rank).or_insert(after);
                *known = after.min(*known);
            }
        }
        let mut earliest = Span::new(std::time::Duration::MAX);
        for after in of_rank.values_mut().rev() {
            earliest = earliest.min(*after);
            *after = earliest;
        }
        Self { of_any, of_one, of_rank }
    }

    /// Whoever is told from a severity on is told of everything that is more severe.
    fn told(&self, severity: &str) -> Option<Span> {
        let of_one = self.of_one.get(severity).copied();
        let by_rank =
            rank(severity).and_then(|rank| self.of_rank.range(rank..).next()).map(|(_, after)| *after);
        [self.of_any, of_one, by_rank].into_iter().flatten().min()
    }
}

/// `contact-address`: a placeholder reaches nobody.
pub(super) fn contacts(view: &View<'_>, found: &mut Found) {
    for (name, contact) in &view.plan.contacts {
        let key = format!("contacts.{}.reach", part(name));
        let unreal: Vec<&str> =
            contact.reach.iter().map(String::as_str).filter(|reach| !is_real(reach)).collect();
        let what = match (contact.reach.len(), unreal.len()) {
            (0, _) => format!("{name} is to be told, and no address is given"),
            (_, 0) => continue,
            _ => format!("{name} is to be told at {}, where nobody is reached", listed(&unreal)),
        };
        let hint = "Give an address, a number or a channel, and try it.";
        found.push(Finding::hazard(Rule::ContactAddress, key, what).hint(hint));
    }
}

/// Domains that RFC 2606 keeps for examples.
const EXAMPLES: &[&str] =
    &["example.com", "example.org", "example.net", ".example", ".invalid", ".test", "localhost"];

/// Whether somebody could be reached there: neither a placeholder nor the bare name of a means.
fn is_real(reach: &str) -> bool {
    let reach = reach.trim();
    let is_placeholder = reach.contains(['[', ']', '<', '>']) && !reach.contains("<mailto:");
    let domain =
        reach.rsplit(['@', '/']).find(|part| part.contains('.') || *part == "localhost").unwrap_or_default();
    let is_example = EXAMPLES.iter().any(|example| {
        domain == *example
            || domain
                .strip_suffix(example)
                .is_some_and(|rest| rest.is_empty() || example.starts_with('.') || rest.ends_with('.'))
    });
    let digits = reach.chars().filter(char::is_ascii_digit).count();
    let says_where = reach.contains(['@', '#', '/', ':']) || digits >= 5;
    !is_placeholder && !is_example && says_where
}

/// `review-order`: each part rests on the one before.
pub(super) fn review(view: &View<'_>, found: &mut Found) {
    let Some(review) = &view.plan.review else { return };
    let (timeline, meeting) = (("timeline", review.timeline), ("meeting", review.meeting));
    let (actions, shared) = (("actions", review.actions), ("shared", review.shared));
    let (cause, prevention) = (("cause", review.cause), ("prevention", review.prevention));
    let order = [
        (timeline, meeting),
        (meeting, actions),
        (meeting, shared),
        (cause, prevention),
        (actions, prevention),
    ];
    for ((first, sooner), (then, later)) in order {
        let (Some(sooner), Some(later)) = (sooner, later) else { continue };
        if sooner > later {
            let what = format!(
                "of a review, {first} is due after {sooner} and {then}, which rests on it, after {later}"
            );
            let hint = "Let what comes first be due first.";
            found.push(Finding::contradiction(Rule::ReviewOrder, format!("review.{then}"), what).hint(hint));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholders_reach_nobody() {
        for real in [
            "ops@aragora.ai",
            "#incidents",
            "+49 30 1234567",
            "https://pager.aragora.ai/x",
            "slack:incidents",
        ] {
            assert!(is_real(real), "{real}");
        }
        for unreal in [
            "",
            "[PagerDuty/Slack]",
            "<phone>",
            "Phone",
            "PagerDuty",
            "ops@example.com",
            "a@b.example",
            "x@mail.example.org",
        ] {
            assert!(!is_real(unreal), "{unreal}");
        }
        assert!(is_real("a@counterexample.com"));
    }

    #[test]
    fn severities_are_ranked_by_number_or_word() {
        assert!(rank("SEV-1") < rank("SEV-2") && rank("critical") < rank("Low"));
        assert_eq!(rank("purple"), None);
        assert_eq!(rank("p99999999999999999999999"), None);
    }

    #[test]
    fn whoever_is_told_of_less_is_told_of_more() {
        let minutes = |n: u64| Span::from_secs(n * 60);
        let told = [(Some("SEV-1"), minutes(5)), (Some("SEV-3"), minutes(30)), (None, minutes(60))];
        let first = First::of(&told);
        assert_eq!(first.told("SEV-1"), Some(minutes(5)));
        assert_eq!(first.told("SEV-2"), Some(minutes(30)));
        assert_eq!(first.told("SEV-4"), Some(minutes(60)));
    }
}
