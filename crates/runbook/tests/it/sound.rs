//! What sound documents compile to.

use crate::compiled;
use lifeboat_plan::Span;
use lifeboat_runbook::{
    Action, InputKind, Phase, Relation, Repeat, Role, Runbook, Source, Step, StepId, Undo,
};

/// A runbook in which everything is there.
pub(crate) const WHOLE: &str = include_str!("whole.md");

fn step<'r>(runbook: &'r Runbook, id: &str) -> &'r Step {
    runbook.step(&StepId::new(id).unwrap()).unwrap()
}

fn needs(step: &Step) -> Vec<&str> {
    step.needs.iter().map(StepId::as_str).collect()
}

#[test]
fn everything_is_read() {
    let runbook = compiled(WHOLE);
    assert_eq!(runbook.title, "Move the users to another host");
    let ids: Vec<&str> = runbook.steps.iter().map(|step| step.id.as_str()).collect();
    let order = [
        "gone",
        "on-call-personnel-notified",
        "writers-are-stopped",
        "fence",
        "is-fenced",
        "unfence",
        "restore",
        "lag",
        "promote",
        "users-there",
        "answers",
    ];
    assert_eq!(ids, order);
    let roles: Vec<Role> = runbook.steps[3..6].iter().map(|step| step.role).collect();
    assert_eq!(roles, [Role::Forward, Role::Probe, Role::Undo]);

    let gone = step(&runbook, "gone");
    assert!(gone.is_check && gone.repeat == Repeat::Safe && gone.undo == Undo::Nothing);
    assert_eq!(
        (gone.phase, gone.retry.unwrap().every, gone.timeout),
        (Phase::Detect, Span::from_secs(2), Span::from_secs(30))
    );
    assert_eq!(
        (gone.title.as_str(), gone.section.as_slice()),
        ("Is the old primary gone?", ["Look".to_owned()].as_slice())
    );

    let fence = step(&runbook, "fence");
    assert_eq!(needs(fence), ["gone", "writers-are-stopped"]);
    assert_eq!(fence.repeat, Repeat::Check(StepId::new("is-fenced").unwrap()));
    assert_eq!(fence.undo, Undo::By(StepId::new("unfence").unwrap()));

    let restore = step(&runbook, "restore");
    assert_eq!(needs(restore), ["fence"], "the forward step before it, over a probe and an undo");
    assert_eq!(restore.title, "Restore the users");
    let Action::Lifeboat { words } = &restore.action else { panic!() };
    assert_eq!(words, &["restore", "users", "--to", "${target}", "--into", "/srv/users"]);

    let promote = step(&runbook, "promote");
    assert_eq!(needs(promote), ["lag", "restore"], "what it takes values from as well");
    let approval = promote.approval.as_ref().unwrap();
    assert_eq!((approval.quorum.get(), approval.role.as_str()), (2, "incident commander"));
    assert_eq!(approval.facts[0].source, Source::Input("target".to_owned()));
    let lag = Source::Output { step: StepId::new("lag").unwrap(), name: "seconds".to_owned() };
    let bounds: Vec<_> = approval.bounds.iter().map(|bound| (&bound.fact.source, bound.relation)).collect();
    assert_eq!(
        bounds,
        [(&lag, Relation::AtMost), (&lag, Relation::Less)],
        "by its own name and by a passed one"
    );
    assert!(
        matches!(&promote.undo, Undo::Impossible { reason: Some(reason) } if reason.contains("timeline"))
    );

    let told = step(&runbook, "on-call-personnel-notified");
    assert!(told.needs.is_empty() && told.undo == Undo::Nothing && told.timeout == Span::from_secs(900));
    assert!(
        matches!(&told.action, Action::Person { role: Some(role), ticked: false, .. } if role == "communications")
    );
    assert_eq!(step(&runbook, "writers-are-stopped").timeout, Span::from_secs(86_400));
}

#[test]
fn the_front_matter_is_read() {
    let front = compiled(WHOLE).front;
    assert_eq!(front.version.as_deref(), Some("1.10"), "as it is written");
    assert_eq!(
        (front.objectives.rto, front.objectives.rpo),
        (Some(Span::from_secs(3600)), Some(Span::from_secs(5)))
    );
    assert_eq!(front.reviewed.unwrap().to_string(), "2026-11-01");
    assert_eq!(front.contacts["commander"].reach, ["#incidents", "+1 555 0100"]);
    assert_eq!((front.datasets, front.services), (vec!["users".to_owned()], vec!["web".to_owned()]));
    assert_eq!(front.inputs["database"].kind, InputKind::Secret);
    assert_eq!(front.inputs["host"].choices, ["db-1", "db-2"]);
    assert_eq!(front.inputs["target"].description.as_deref(), Some("the last good instant"));
}

#[test]
fn a_run_is_pinned_to_every_byte() {
    let (one, other) = (compiled(WHOLE), compiled(&format!("{WHOLE}\n")));
    assert_ne!(one.document, other.document);
    assert_eq!(one.steps, other.steps);
}

#[test]
fn steps_are_in_the_order_of_the_document_as_far_as_that_goes() {
    let text = "# T\n```bash {step=a needs=c repeat=safe}\nx\n```\n```bash {step=b needs=none repeat=safe}\nx\n```\n\
                ```bash {step=c needs=none}\nx\n```\n```bash {step=d}\nx\n```\n";
    let runbook = compiled(text);
    let ids: Vec<&str> = runbook.steps.iter().map(|step| step.id.as_str()).collect();
    assert_eq!(ids, ["b", "c", "a", "d"]);
    assert_eq!(needs(step(&runbook, "d")), ["c"]);
}

#[test]
fn ten_thousand_steps_are_nothing_special() {
    let steps: String =
        (0..10_000).map(|n| format!("```bash {{step=s{n}}}\ntrue {n}\n```\n- [ ] Look\n")).collect();
    let runbook = compiled(&format!("# T\n{steps}"));
    assert_eq!(runbook.steps.len(), 20_000);
    assert_eq!(runbook.steps[19_999].id.as_str(), "look-10000");
}
