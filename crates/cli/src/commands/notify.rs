//! `lifeboat notify test`: whether a message arrives, before one has to.

use crate::args::NotifyCommand;
use crate::context::Context;
use crate::failure::{Failure, Outcome};
use crate::output::duration;
use crate::secret::read_secret;
use lifeboat_base::clock::{Clock, Stopwatch};
use lifeboat_base::{Hint, report};
use lifeboat_daemon::{Trouble, channel_of, templates_of};
use lifeboat_notify::SendError;
use lifeboat_plan::{NotifyPlan, SecretRef};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::Duration;

/// What became of one channel's message.
struct Tested<'p> {
    channel: &'p str,
    way: &'static str,
    took: Duration,
    /// Why it did not arrive, where it did not.
    failure: Option<Failure>,
    /// What is wrong with the channel's own texts: the built-in one was sent.
    template: Option<Failure>,
}

impl Tested<'_> {
    fn is_well(&self) -> bool {
        self.failure.is_none() && self.template.is_none()
    }
}

pub(crate) fn run(context: &Context, command: &NotifyCommand) -> Result<Outcome, Failure> {
    let NotifyCommand::Test { channels } = command;
    let chosen = chosen(context, channels)?;
    let system = context.plan.system.as_ref().map_or_else(|| context.host(), |system| system.name.clone());
    let all = test_all(&chosen, &system);
    for tested in &all {
        for failure in [&tested.failure, &tested.template].into_iter().flatten() {
            context.output.one_failure(tested.channel, failure);
        }
    }
    context.output.result(|| document(&system, &all), |text| say(&all, text))?;
    Ok(if all.iter().all(Tested::is_well) { Outcome::Done } else { Outcome::Failed })
}

/// The channels that are named, in the plan's order; all of them where none is.
fn chosen<'p>(context: &'p Context, named: &[String]) -> Result<Vec<(&'p str, &'p NotifyPlan)>, Failure> {
    let planned = &context.plan.notify;
    if planned.is_empty() {
        return Err(Failure::usage(
            "the plan names nobody to tell",
            "Write [notify.NAME] with `webhook` or `smtp` into the plan; docs/notifications.md has its keys.",
        ));
    }
    if let Some(unknown) = named.iter().find(|name| !planned.contains_key(*name)) {
        let known = planned.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return Err(Failure::usage(
            format!("{unknown} is no channel of the plan"),
            format!("The plan has these: {known}."),
        ));
    }
    let is_chosen = |name: &String| named.is_empty() || named.contains(name);
    Ok(planned.iter().filter(|(name, _)| is_chosen(name)).map(|(name, plan)| (name.as_str(), plan)).collect())
}

/// Side by side: one that hangs holds up no other.
fn test_all<'p>(chosen: &[(&'p str, &'p NotifyPlan)], system: &str) -> Vec<Tested<'p>> {
    std::thread::scope(|scope| {
        let testing =
            chosen.iter().map(|(name, plan)| (*name, *plan, scope.spawn(|| test(name, plan, system))));
        let testing: Vec<_> = testing.collect();
        let done = testing
            .into_iter()
            .map(|(name, plan, thread)| thread.join().unwrap_or_else(|_| panicked(name, plan)));
        done.collect()
    })
}

fn test<'p>(name: &'p str, plan: &'p NotifyPlan, system: &str) -> Tested<'p> {
    let (watch, templates) = (Stopwatch::start(), templates_of(plan));
    let secret = |reference: &SecretRef| {
        read_secret(&reference.to_string()).map_err(|failure| no_secret(name, failure))
    };
    let sent = channel_of(name, plan, &secret)
        .map_err(|trouble| Failure { code: 1, message: trouble.message, hint: trouble.hint })
        .and_then(|channel| {
            let sent = lifeboat_notify::test(channel.as_ref(), &templates, system, Clock::System.now());
            sent.map_err(|error| not_sent(&error))
        });
    let template = templates.check().err();
    Tested {
        channel: name,
        way: way(plan),
        took: watch.elapsed(),
        failure: sent.err(),
        template: template.map(|error| Failure { code: 1, message: report(&error), hint: error.hint() }),
    }
}

fn no_secret(channel: &str, failure: Failure) -> Trouble {
    let hint = format!(
        "Check where notify.{channel} in the plan has its secret: env:NAME, file:PATH, command:COMMAND or vault:PATH#FIELD, as this \
         command and `lifeboat serve` see them."
    );
    Trouble::new(failure.message, hint)
}

fn not_sent(error: &SendError) -> Failure {
    // A test is not tried again.
    const LATER: &str =
        "Check that the other side is up and reachable from here; `lifeboat serve` would try again.";
    let hint = if error.is_retriable() { Some(LATER.to_owned()) } else { error.hint() };
    Failure { code: 1, message: report(error), hint }
}

fn panicked<'p>(name: &'p str, plan: &'p NotifyPlan) -> Tested<'p> {
    let failure = Failure::failed("the test came to an end that it should not: a defect");
    Tested { channel: name, way: way(plan), took: Duration::ZERO, failure: Some(failure), template: None }
}

const fn way(plan: &NotifyPlan) -> &'static str {
    if plan.smtp.is_some() { "smtp" } else { "webhook" }
}

fn say(all: &[Tested<'_>], text: &mut Vec<u8>) -> io::Result<()> {
    let width = all.iter().map(|tested| tested.channel.len()).max().unwrap_or_default();
    for Tested { channel, way, took, failure, template } in all {
        let outcome = match (failure, template) {
            (Some(_), _) => "not delivered after",
            (None, Some(_)) => "delivered, with the built-in text, in",
            (None, None) => "delivered in",
        };
        writeln!(text, "{channel:width$}  {way:7}  {outcome} {}", duration(*took))?;
    }
    Ok(())
}

fn document(system: &str, all: &[Tested<'_>]) -> Value {
    let one = |tested: &Tested<'_>| {
        json!({
            "channel": tested.channel,
            "way": tested.way,
            "delivered": tested.failure.is_none(),
            "took_seconds": tested.took.as_secs_f64(),
            "error": tested.failure.as_ref().map(|failure| &failure.message),
            "hint": tested.failure.as_ref().and_then(|failure| failure.hint.as_ref()),
            "template_error": tested.template.as_ref().map(|failure| &failure.message),
        })
    };
    json!({ "system": system, "channels": all.iter().map(one).collect::<Vec<_>>() })
}
