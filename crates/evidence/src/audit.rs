//! The fields that an auditor asks of each record, in the order of what SOC 2 (A1.2, A1.3, CC7.5), ISO 22301 (8.5,
//! 8.6), ISO 27001 (A.8.13), NIST SP 800-34 and DORA (Art. 11, 12) want to see.
//!
//! A field that is not known is said to be not recorded, never left out: an empty place would look like a passed one.

use crate::event::{Action, Event, Outcome};
use crate::receipt::SignedReceipt;
use serde_json::{Map, Value, json};

/// What stands where nothing is known.
pub const NOT_RECORDED: &str = "not recorded";

/// One field of a record.
#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// Its name for programs.
    pub name: &'static str,
    /// Its name for people.
    pub label: &'static str,
    /// What is known.
    pub value: Option<Value>,
}

const fn field(name: &'static str, label: &'static str, value: Option<Value>) -> Field {
    Field { name, label, value }
}

/// All fields of a receipt.
pub fn fields(signed: &SignedReceipt) -> Vec<Field> {
    let receipt = signed.receipt();
    let (draft, event) = (&receipt.draft, &receipt.draft.event);
    let text = |text: &str| Some(Value::from(text));
    vec![
        field("id", "Unique identity", text(&draft.id.to_string())),
        field("action", "What was done", text(event.action.word())),
        field("outcome", "Outcome", text(event.outcome.word())),
        field("subject", "Subject", non_empty(json!(event.subject))),
        field("started", "Begun", event.started.map(|at| at.to_string().into())),
        field("ended", "Ended", text(&draft.at.to_string())),
        field("plan", "Plan version and hash", event.plan.as_ref().map(|plan| json!(plan))),
        field("scenario", "Scenario and business impact", None),
        field("test_type", "Type of test", test_type(event).map(Value::from)),
        field("environment", "Environment", text(&environment(signed))),
        field("segregation", "Proof of segregation", None),
        field("participants", "Participants", text(&format!("{} on {}", draft.who.word(), draft.host))),
        field("roles", "Roles and absences", None),
        field("approvals", "Approvals", None),
        field("steps", "Steps with begin, end, actor and result", None),
        field("recovery_time_target", "Recovery time: target", None),
        field("recovery_time", "Recovery time: actual, by its parts", recovery_time(event)),
        field("loss_target", "Recovery point: target", None),
        field("loss", "Recovery point: actual loss", event.loss.as_ref().map(|loss| json!(loss))),
        field("checksums", "Checksums", non_empty(json!(event.checksums))),
        field("keys", "Keys that were used", non_empty(json!(event.keys))),
        field("measured", "Measured and observed", non_empty(json!(event.facts))),
        field("timings", "Duration of its parts, in seconds", non_empty(json!(event.timings))),
        field("completeness", "Integrity and completeness", text(&completeness(event))),
        field("deviations", "Deviations, omissions and doubts", Some(json!(event.reasons))),
        field("cleanup", "Proof of cleanup or failback", None),
        field("findings", "Findings with owner, due date and retest", None),
        field("sign_off", "Sign-off by management", None),
        field("controls", "Controls that it may serve", controls(&event.action)),
        field(
            "chain",
            "Chain",
            Some(
                json!({ "repository": receipt.chain.repository, "writer": receipt.chain.writer, "number": receipt.number, "previous": receipt.previous }),
            ),
        ),
        field("hash", "SHA-256 of its canonical form", Some(json!(signed.hash()))),
        field("signature", "Signature (Ed25519)", Some(json!(signed.signature()))),
    ]
}

/// A record for programs.
pub fn record(signed: &SignedReceipt) -> Value {
    let named = fields(signed).into_iter().map(|field| {
        let value = field.value.unwrap_or_else(|| NOT_RECORDED.into());
        (field.name.to_owned(), value)
    });
    Value::Object(named.collect::<Map<_, _>>())
}

fn non_empty(value: Value) -> Option<Value> {
    let empty = value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty);
    (!empty).then_some(value)
}

fn environment(signed: &SignedReceipt) -> String {
    let receipt = signed.receipt();
    format!(
        "host {}, Lifeboat {}, repository {}",
        receipt.draft.host, receipt.draft.release, receipt.chain.repository
    )
}

fn test_type(event: &Event) -> Option<&'static str> {
    match event.action {
        Action::Proof => Some("restored into a scratch place, started where it can be, and questioned"),
        Action::Restore => Some("restored"),
        _ => None,
    }
}

/// Only of what brought something back.
fn recovery_time(event: &Event) -> Option<Value> {
    let brought_back = matches!(event.action, Action::Proof | Action::Restore);
    if brought_back { non_empty(json!(event.timings)) } else { None }
}

fn completeness(event: &Event) -> String {
    let text = match event.outcome {
        Outcome::Done if event.action == Action::Proof => "proven: read back and compared, all of it",
        Outcome::Done => "complete, as far as it was looked at",
        Outcome::LeftOut => "incomplete: items were left out",
        Outcome::Failed => "failed",
        Outcome::Inconclusive => "could not be told",
        Outcome::Interrupted => "interrupted: nobody saw its end",
    };
    text.to_owned()
}

/// Which controls a record can be evidence for. Whether it suffices is the auditor's to say.
fn controls(action: &Action) -> Option<Value> {
    let controls: &[&str] = match action {
        Action::Backup | Action::Copy | Action::Import => &["SOC 2 A1.2", "ISO 27001 A.8.13"],
        Action::Proof | Action::Restore | Action::Export => {
            &["SOC 2 A1.3", "ISO 22301 8.5", "ISO 27001 A.8.13", "NIST SP 800-34 CP-4", "DORA Art. 12"]
        }
        Action::PlanChange | Action::PolicyChange => &["ISO 22301 8.6"],
        _ => return None,
    };
    Some(json!(controls))
}

/// Whether it is to be shown before what went well.
pub fn is_a_failure(event: &Event) -> bool {
    event.outcome != Outcome::Done || event.action == Action::JobFailed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{TestSigner, receipt};
    use std::time::Duration;

    #[test]
    fn every_field_is_there_and_what_is_not_known_is_said() {
        let signer = TestSigner::new(1);
        let mut proof = receipt(&signer, 1, None);
        proof.draft.event = Event::new(Action::Proof, Outcome::Failed)
            .dataset("users")
            .because("a page is damaged")
            .took("restore", Duration::from_millis(1500));
        let record = record(&SignedReceipt::sign(&proof, &signer).unwrap());
        assert_eq!(record["scenario"], NOT_RECORDED);
        assert_eq!(record["recovery_time"], json!({ "restore": 1.5 }));
        assert_eq!(record["deviations"], json!(["a page is damaged"]));
        assert_eq!(record["completeness"], "failed");
        assert_eq!(record.as_object().unwrap().len(), 32);
        proof.draft.event.action = Action::Backup;
        let backup = super::record(&SignedReceipt::sign(&proof, &signer).unwrap());
        assert_eq!(backup["recovery_time"], NOT_RECORDED, "a backup brings nothing back");
    }
}
