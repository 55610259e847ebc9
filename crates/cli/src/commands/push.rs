//! `lifeboat wal push`: what a server's archiver calls. It says nothing where all is well, and one line where it is
//! not, which the server puts into its log.

use crate::context::{Context, dataset_name};
use crate::failure::{Failure, Outcome};
use lifeboat_base::{Hint, report};
use lifeboat_store_postgres::{PushError, Pushed, push};
use serde_json::json;
use std::io::Write;
use std::path::Path;

pub(crate) fn run(context: &Context, file: &Path, dataset: &str) -> Result<Outcome, Failure> {
    let in_one_line = |failure: Failure| one_line(file, failure);
    let name = dataset_name(dataset).map_err(in_one_line)?;
    let repository = context.open().map_err(in_one_line)?;
    let pushed = push(&repository, &name, file).map_err(|error| in_one_line(failed(&error)))?;
    say(context, file, dataset, &pushed);
    context.output.result(
        || {
            json!({
                "dataset": dataset,
                "file": file.display().to_string(),
                "system": pushed.system.to_string(),
                "appended_bytes": pushed.appended,
                "known_bytes": pushed.known,
                "new_lineage": pushed.new_cluster,
                "hole": pushed.hole.map(|(from, to)| json!({ "from": from.to_string(), "to": to.to_string() })),
            })
        },
        // An archiver wants to hear nothing.
        |text| text.flush(),
    )?;
    Ok(Outcome::Done)
}

fn failed(error: &PushError) -> Failure {
    Failure { code: 1, message: report(error), hint: error.hint() }
}

fn one_line(file: &Path, failure: Failure) -> Failure {
    let hint = failure.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    let message = format!("push {}: {}{hint}", file.display(), failure.message);
    Failure { code: failure.code, message: message.replace('\n', " "), hint: None }
}

/// What somebody should know although the file is safe.
fn say(context: &Context, file: &Path, dataset: &str, pushed: &Pushed) {
    if pushed.new_cluster {
        context.output.warn(&format!(
            "{}: another cluster was kept as {dataset} before; a new lineage begins with system {}",
            file.display(),
            pushed.system
        ));
    }
    if let Some((from, to)) = pushed.hole {
        context.output.warn(&format!(
            "{}: the log before it is missing from {from} to {to}; no point between can be restored to",
            file.display()
        ));
    }
}
