//! Orders as a run gives them.

use lifeboat_base::Secret;
use lifeboat_run::event::{Act, Part};
use lifeboat_run::{Order, Value};
use lifeboat_runbook::{Action, Output};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

pub(crate) fn order(folder: &Path, action: Action) -> Order {
    let block = "block".parse().unwrap();
    Order {
        run: "20270115t080000z-00000001".parse().unwrap(),
        step: "step".parse().unwrap(),
        block,
        act: Act::Do,
        part: Part::Itself,
        attempt: 1,
        action,
        asks: false,
        values: BTreeMap::new(),
        outputs: Vec::new(),
        expects: false,
        secrets: Vec::new(),
        timeout: Duration::from_secs(60),
        capture: folder.join("step.log"),
    }
}

pub(crate) fn plain(values: &[(&str, &str)]) -> BTreeMap<String, Value> {
    values.iter().map(|(name, value)| ((*name).to_owned(), Value::Plain((*value).to_owned()))).collect()
}

pub(crate) fn secret(reference: &str, secret: &str) -> Value {
    Value::Secret { reference: reference.to_owned(), secret: Secret::new(secret.as_bytes().to_vec()) }
}

pub(crate) fn output(name: &str, pointer: Option<&str>) -> Output {
    Output { name: name.to_owned(), pointer: pointer.map(str::to_owned) }
}

pub(crate) fn captured(order: &Order) -> String {
    std::fs::read_to_string(&order.capture).unwrap()
}
