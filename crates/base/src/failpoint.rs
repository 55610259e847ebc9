//! Failpoints: named instants at which a test can kill, fail or pause the process.
//!
//! Every crash window has one, named `crate::moment`. They exist in debug builds (and with the feature
//! `failpoints`); in a release build [`reach`] is an empty function. `LIFEBOAT_FAILPOINTS` holds
//! `name=action` pairs separated by `;`. An action is `kill` (the process ends as by SIGKILL: no
//! destructors, no flush), `error` ([`reach`] returns an I/O error), `pause:MILLISECONDS`, `freeze` (the
//! process stops as by SIGSTOP, at one arrival only, until somebody continues it), or `off`; a number and
//! `*` in front let that many arrivals pass first: `repository::index-put=2*kill`.
//!
//! `LIFEBOAT_FAILPOINTS_SEEN` names a file to which every failpoint that is reached appends its name, so
//! that a test can list them all and prove that it killed at each.

use std::io;

/// Marks an instant. Does nothing unless a test asked for it.
///
/// # Errors
/// Only where the environment asks this failpoint for an error.
#[cfg(not(any(debug_assertions, feature = "failpoints")))]
#[inline(always)]
pub fn reach(_name: &'static str) -> io::Result<()> {
    Ok(())
}

/// Marks an instant. Does nothing unless a test asked for it.
///
/// # Errors
/// Only where the environment asks this failpoint for an error.
#[cfg(any(debug_assertions, feature = "failpoints"))]
pub fn reach(name: &'static str) -> io::Result<()> {
    enabled::reach(name)
}

#[cfg(any(debug_assertions, feature = "failpoints"))]
mod enabled {
    use std::collections::HashMap;
    use std::fs::OpenOptions;
    use std::io::{self, Write};
    use std::sync::{LazyLock, Mutex};
    use std::time::Duration;

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) enum Action {
        Kill,
        Error,
        Pause(Duration),
        Freeze,
        Off,
    }

    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Armed {
        pub(super) let_pass: u32,
        pub(super) action: Action,
    }

    static ARMED: LazyLock<Mutex<HashMap<String, Armed>>> =
        LazyLock::new(|| Mutex::new(parse(&std::env::var("LIFEBOAT_FAILPOINTS").unwrap_or_default())));
    static SEEN: LazyLock<Option<String>> = LazyLock::new(|| std::env::var("LIFEBOAT_FAILPOINTS_SEEN").ok());

    pub(super) fn reach(name: &'static str) -> io::Result<()> {
        if let Some(path) = SEEN.as_ref() {
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(format!("{name}\n").as_bytes())?;
        }
        let action = {
            let mut armed = ARMED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            match armed.get_mut(name) {
                Some(point) if point.let_pass > 0 => {
                    point.let_pass -= 1;
                    Action::Off
                }
                Some(point) if point.action == Action::Freeze => {
                    std::mem::replace(&mut point.action, Action::Off)
                }
                Some(point) => point.action,
                None => Action::Off,
            }
        };
        match action {
            Action::Off => Ok(()),
            Action::Pause(time) => {
                std::thread::sleep(time);
                Ok(())
            }
            Action::Freeze => {
                let itself = rustix::process::getpid();
                rustix::process::kill_process(itself, rustix::process::Signal::STOP)?;
                // Other threads may take the signal: this one must not get any further before it has taken effect.
                std::thread::sleep(Duration::from_millis(100));
                Ok(())
            }
            Action::Error => Err(io::Error::other(format!("failpoint {name}"))),
            Action::Kill => {
                let _ =
                    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
                std::thread::sleep(Duration::from_secs(60));
                std::process::abort()
            }
        }
    }

    /// Panics on text that it does not understand: a test that arms nothing must not pass.
    pub(super) fn parse(text: &str) -> HashMap<String, Armed> {
        text.split(';').map(str::trim).filter(|entry| !entry.is_empty()).map(parse_entry).collect()
    }

    fn parse_entry(entry: &str) -> (String, Armed) {
        let (name, action) =
            entry.split_once('=').unwrap_or_else(|| panic!("failpoint without '=': {entry}"));
        let (let_pass, action) = match action.split_once('*') {
            Some((count, action)) => {
                (count.parse().unwrap_or_else(|_| panic!("bad count in failpoint: {entry}")), action)
            }
            None => (0, action),
        };
        let action = match action {
            "kill" => Action::Kill,
            "error" => Action::Error,
            "freeze" => Action::Freeze,
            "off" => Action::Off,
            other => match other.strip_prefix("pause:").and_then(|ms| ms.parse().ok()) {
                Some(ms) => Action::Pause(Duration::from_millis(ms)),
                None => panic!("unknown failpoint action: {entry}"),
            },
        };
        (name.to_owned(), Armed { let_pass, action })
    }
}

#[cfg(test)]
mod tests {
    use super::enabled::{Action, Armed, parse};
    use std::time::Duration;

    #[test]
    fn actions_are_parsed() {
        let armed = parse("a::b=kill; c::d=2*pause:50 ;e=error; f=1*freeze");
        assert_eq!(armed["a::b"], Armed { let_pass: 0, action: Action::Kill });
        assert_eq!(armed["c::d"], Armed { let_pass: 2, action: Action::Pause(Duration::from_millis(50)) });
        assert_eq!(armed["e"], Armed { let_pass: 0, action: Action::Error });
        assert_eq!(armed["f"], Armed { let_pass: 1, action: Action::Freeze });
        assert_eq!(armed.len(), 4);
    }

    #[test]
    fn nothing_happens_at_a_failpoint_that_nobody_armed() {
        super::reach("base::nobody").unwrap();
    }
}
