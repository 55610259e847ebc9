//! Lifeboat's own commands: this very program, started with the words of the block and `--json`. What it prints on its
//! standard output is one document, from which outputs are taken by their pointers (RFC 6901).

use lifeboat_run::event::Ended;
use lifeboat_run::{Bash, Carried, Carry, Order, Stop, Value, fill};
use lifeboat_runbook::Action;
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;

/// Carries out `lifeboat` blocks.
#[derive(Clone, Debug)]
pub struct Lifeboat {
    program: PathBuf,
    /// What stands before the words: options that the run was started with.
    before: Vec<String>,
    bash: Bash,
}

impl Lifeboat {
    /// By this program, with these options before each command's own words.
    pub fn new(program: PathBuf, before: Vec<String>) -> Self {
        Self { program, before, bash: Bash::default() }
    }

    /// The words with their values. A secret among them would stand in the list of processes for everybody to read.
    fn words(order: &Order) -> Result<Vec<String>, String> {
        let Action::Lifeboat { words } = &order.action else {
            return Err("this is no command of Lifeboat".to_owned());
        };
        let secret = order.values.iter().find(|(name, value)| {
            matches!(value, Value::Secret { .. })
                && words.iter().any(|word| word.contains(&format!("${{{name}}}")))
        });
        if let Some((name, _)) = secret {
            return Err(format!(
                "{name} is a secret, and would stand in the list of processes: name where it is (env:NAME, file:PATH)"
            ));
        }
        words.iter().map(|word| fill(word, &order.values)).collect()
    }

    /// As a script: so it runs in a process group of its own, is stopped, captured and masked like any other.
    fn script(&self, order: &Order) -> Result<String, String> {
        let words = Self::words(order)?;
        let program = self.program.to_str().ok_or("the path of this program is no UTF-8")?;
        let mut script = quoted(program);
        for word in self.before.iter().chain(&words) {
            let _ = write!(script, " {}", quoted(word));
        }
        script.push_str(" --json");
        // An objective that is missed (exit code 3) is an answer: no.
        if order.asks {
            script.push_str(" || case $? in 1|3) exit 1;; *) exit 2;; esac");
        }
        Ok(script)
    }
}

/// A word as bash reads it back, whatever is in it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

impl Carry for Lifeboat {
    fn carry(&self, order: &Order, stop: &Stop) -> Carried {
        let script = match self.script(order) {
            Ok(script) => script,
            Err(why) => return Carried::not_begun(why),
        };
        let as_script = Order { action: Action::Bash { script }, values: BTreeMap::new(), ..order.clone() };
        let mut carried = self.bash.carry(&as_script, stop);
        match outputs(order, carried.answer.as_deref().unwrap_or_default()) {
            Ok(outputs) => carried.outputs = outputs,
            Err(why) if carried.ended == Ended::Done => carried.ended = Ended::Failed { why },
            Err(_) => {}
        }
        carried
    }

    fn look(&self, order: &Order) -> Vec<String> {
        let mut findings: Vec<String> = Self::words(order).err().into_iter().collect();
        if !self.program.is_file() {
            findings.push(format!("{} is not there", self.program.display()));
        }
        findings
    }

    fn clear_up(&self, order: &Order) {
        self.bash.clear_up(order);
    }
}

/// The outputs that the block declares, out of the document that the command printed.
fn outputs(order: &Order, answer: &str) -> Result<BTreeMap<String, String>, String> {
    if order.outputs.is_empty() {
        return Ok(BTreeMap::new());
    }
    let document: Json =
        serde_json::from_str(answer).map_err(|error| format!("what it printed is no document: {error}"))?;
    let named = order.outputs.iter().map(|output| {
        let pointer = output.pointer.clone().unwrap_or_else(|| format!("/{}", output.name));
        let value =
            document.pointer(&pointer).ok_or_else(|| format!("what it printed has nothing at {pointer}"))?;
        Ok((output.name.clone(), text(value)))
    });
    named.collect()
}

/// A value as the next step is given it.
fn text(value: &Json) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
