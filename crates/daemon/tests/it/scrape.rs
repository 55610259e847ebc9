//! What a service says on /metrics, taken over as Prometheus would have it if all of it went on like that for two hours,
//! and what promtool makes of it: which alerts fire, which expressions have data.

use crate::alarms::deploy;
use crate::web::PATIENCE;
use crate::world::World;
use lifeboat_base::clock::Clock;
use serde_json::{Value, json};
use std::fmt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Longer than any rule waits.
const MINUTES: usize = 120;
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// A service judges once a second. One whose judgement is the same for so long does not judge any more.
const STANDS_STILL: Duration = Duration::from_secs(4);
const JUDGED: &str = "lifeboat_status_timestamp_seconds";

/// An alert that fires.
#[derive(Clone, Debug)]
pub(crate) struct Alert {
    pub(crate) name: String,
    severity: &'static str,
    labels: String,
}

/// An alert by its name without the first word. `HERE` in its labels is the instance.
fn alert(severity: &'static str, name: &str, labels: &str) -> Alert {
    Alert { name: format!("Lifeboat{name}"), severity, labels: labels.to_owned() }
}

pub(crate) fn critical(name: &str, labels: &str) -> Alert {
    alert("critical", name, labels)
}

pub(crate) fn warning(name: &str, labels: &str) -> Alert {
    alert("warning", name, labels)
}

/// It fires always.
pub(crate) fn watchdog() -> Alert {
    alert("none", "Watchdog", "")
}

impl Alert {
    fn expected(&self, instance: &str) -> Value {
        let Self { name, severity, labels } = self;
        let labels = labels.replace("HERE", instance);
        let series =
            format!(r#"ALERTS{{alertname="{name}",alertstate="firing",severity="{severity}",{labels}}}"#);
        json!({ "labels": series, "value": 1 })
    }
}

/// What was scraped of a service.
#[derive(Clone, Debug)]
pub(crate) struct Scrape {
    instance: String,
    /// Nothing where it did not answer.
    text: Option<String>,
    /// Whether its judgement is renewed.
    judges: bool,
}

impl fmt::Display for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} (judges: {})", self.instance, self.judges)?;
        let lines = self.text.iter().flat_map(|text| text.lines());
        lines.filter(|line| !line.starts_with('#')).try_for_each(|line| writeln!(f, "{line}"))
    }
}

impl Scrape {
    /// Of a service that does not answer.
    pub(crate) fn of_nobody(instance: String) -> Self {
        Self { instance, text: None, judges: false }
    }

    fn series(&self) -> Vec<Value> {
        let lines = self.text.iter().flat_map(|text| text.lines()).filter(|line| !line.starts_with('#'));
        let up = format!("up {}", u8::from(self.text.is_some()));
        lines.chain([up.as_str()]).map(|line| self.one_series(line)).collect()
    }

    /// With the labels that Prometheus adds.
    fn one_series(&self, line: &str) -> Value {
        let (series, value) = line.rsplit_once(' ').unwrap();
        let added = format!(r#"instance="{}",job="lifeboat""#, self.instance);
        let series = match series.strip_suffix('}') {
            Some(labelled) => format!("{labelled},{added}}}"),
            None => format!("{series}{{{added}}}"),
        };
        let values = match value {
            // By promtool's clock, at which everything begins at 0.
            _ if series.starts_with(JUDGED) => {
                let age = Clock::System.now().as_nanos() as f64 / 1e9 - value.parse::<f64>().unwrap();
                format!("-{}+{}x{MINUTES}", age.max(0.0), if self.judges { 60 } else { 0 })
            }
            "+Inf" => vec!["Inf"; MINUTES + 1].join(" "),
            value => format!("{value}x{MINUTES}"),
        };
        json!({ "series": series, "values": values })
    }

    /// Whether these alerts fire, and no other.
    pub(crate) fn fires(&self, promtool: &Path, folder: &Path, alerts: &[Alert]) -> Result<(), String> {
        let all: Vec<Value> = alerts.iter().map(|alert| alert.expected(&self.instance)).collect();
        self.says(promtool, folder, &[(r#"ALERTS{alertstate="firing"}"#.to_owned(), all)])
    }

    /// Whether an expression has data, by the expression.
    pub(crate) fn has_data(
        &self,
        promtool: &Path,
        folder: &Path,
        expressions: &[(&str, bool)],
    ) -> Result<(), String> {
        let one = |(expression, has): &(&str, bool)| {
            let some = has.then(|| json!({ "labels": "{}", "value": 1 }));
            (format!("count({expression}) > bool 0"), some.into_iter().collect())
        };
        let all: Vec<_> = expressions.iter().map(one).collect();
        self.says(promtool, folder, &all)
    }

    /// Whether each expression gives these samples.
    fn says(&self, promtool: &Path, folder: &Path, all: &[(String, Vec<Value>)]) -> Result<(), String> {
        let rules = deploy().join("lifeboat.rules.yml").canonicalize().unwrap();
        let eval_time = format!("{MINUTES}m");
        let one = |(expression, samples): &(String, Vec<Value>)| json!({ "expr": expression, "eval_time": eval_time, "exp_samples": samples });
        let tests = all.iter().map(one).collect::<Vec<_>>();
        // What is JSON is YAML as well.
        let test = json!({
            "rule_files": [rules],
            "evaluation_interval": "1m",
            "tests": [{ "interval": "1m", "input_series": self.series(), "promql_expr_test": tests }],
        });
        let path = folder.join("scraped.test.yml");
        lifeboat_base::crashsafe::replace(&path, test.to_string().as_bytes()).unwrap();
        let output = Command::new(promtool).args(["test", "rules"]).arg(&path).output().unwrap();
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()),
        }
    }
}

/// Looks at a service again and again.
struct Eye {
    last: Option<(String, Instant)>,
}

impl Eye {
    fn look(&mut self, world: &World) -> Scrape {
        let text = world.get("/metrics").body;
        let judged = text.lines().find(|line| line.starts_with(JUDGED)).unwrap_or_default().to_owned();
        if self.last.as_ref().is_none_or(|(last, _)| *last != judged) {
            self.last = Some((judged, Instant::now()));
        }
        let judges = self.last.as_ref().is_some_and(|(_, since)| since.elapsed() < STANDS_STILL);
        Scrape { instance: world.address.to_string(), text: Some(text), judges }
    }
}

/// Waits until these alerts fire and no other; gives what was scraped then.
#[track_caller]
pub(crate) fn until_fires(name: &str, world: &World, promtool: &Path, alerts: &[Alert]) -> Scrape {
    let (begun, mut eye) = (Instant::now(), Eye { last: None });
    loop {
        let scrape = eye.look(world);
        match scrape.fires(promtool, world.folder.path(), alerts) {
            Ok(()) => return scrape,
            Err(said) => assert!(begun.elapsed() < PATIENCE, "{name}: {said}\n{scrape}"),
        }
        std::thread::sleep(LOOK_EVERY);
    }
}
