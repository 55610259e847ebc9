//! The last result of a script: kept for people, and taken apart for the steps that follow.

use lifeboat_run::{Capture, Masker, Order};
use std::collections::BTreeMap;
use std::io;

/// So many rows are kept for people.
pub(super) const ROWS: usize = 1000;

/// The last result that has columns.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) columns: Vec<String>,
    /// The first rows, for people.
    pub(super) rows: Vec<Vec<Option<String>>>,
    /// The last one.
    pub(super) last: Option<Vec<Option<String>>>,
    /// How many there were.
    pub(super) count: u64,
    /// What a command without columns says of itself.
    pub(super) tag: String,
}

impl Answer {
    pub(super) fn push(&mut self, row: Vec<Option<String>>) {
        self.count += 1;
        if self.rows.len() < ROWS {
            self.rows.push(row.clone());
        }
        self.last = Some(row);
    }

    /// Keeps it where the output of the step is kept: tab-separated, secrets masked.
    pub(super) fn capture(&self, order: &Order) -> io::Result<()> {
        let mut capture = Capture::create(&order.capture)?;
        capture.push(Masker::text(&order.secrets, &self.text()).as_bytes())?;
        capture.finish()
    }

    fn text(&self) -> String {
        if self.columns.is_empty() {
            return format!("{}\n", self.tag);
        }
        let line = |cells: Vec<&str>| cells.join("\t") + "\n";
        let mut text = line(self.columns.iter().map(String::as_str).collect());
        for row in &self.rows {
            text += &line(row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect());
        }
        text + &format!("({} rows)\n", self.count)
    }

    /// The first value of the last row, where it is not null.
    fn value(&self) -> Option<&str> {
        self.last.as_ref()?.first()?.as_deref()
    }

    pub(super) fn first(&self, order: &Order) -> Option<String> {
        self.value().map(|value| Masker::text(&order.secrets, value))
    }

    /// Whether the answer to a question is no.
    pub(super) fn says_no(&self) -> bool {
        matches!(self.value(), None | Some("" | "f" | "false" | "0"))
    }

    /// The columns of the last row that the block declares.
    pub(super) fn outputs(&self, order: &Order) -> Result<BTreeMap<String, String>, String> {
        let named = order.outputs.iter().map(|output| {
            let column =
                output.pointer.as_deref().map_or(output.name.as_str(), |p| p.trim_start_matches('/'));
            let place = self.columns.iter().position(|name| is_named(name, column));
            let place = place.ok_or_else(|| format!("there is no column {column}"))?;
            let row = self.last.as_ref().ok_or_else(|| format!("there is no row to take {column} from"))?;
            let value = row.get(place).cloned().flatten().ok_or_else(|| format!("{column} is null"))?;
            Ok((output.name.clone(), Masker::text(&order.secrets, &value)))
        });
        named.collect()
    }
}

/// Whether a column is meant: SQL has underscores where a name may have hyphens.
fn is_named(column: &str, wanted: &str) -> bool {
    column == wanted || column == wanted.replace('-', "_")
}
