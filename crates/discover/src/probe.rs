//! Health checks of containers, as probes of a plan.

use crate::address::host_name;
use crate::found::FoundProbe;
use lifeboat_plan::Span;

/// Last words of addresses that say that a process is alive, and not that it can serve.
const LIVENESS: &[&str] = &["healthz", "livez", "live", "liveness", "alive", "ping"];

/// The parts of an HTTP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct HttpAddress {
    scheme: &'static str,
    host: String,
    pub(crate) port: u16,
    path: String,
}

/// Finds the first HTTP address in a command. What may be secret in it, user and query, is left out.
pub(crate) fn http_address(command: &str) -> Option<HttpAddress> {
    let found = [("http", "http://", 80), ("https", "https://", 443)]
        .into_iter()
        .filter_map(|(scheme, start, port)| Some((command.find(start)?, scheme, start, port)))
        .min_by_key(|(at, ..)| *at)?;
    let (at, scheme, start, default_port) = found;
    let is_end = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '|' | ';' | ')' | '?' | '#' | '`');
    let rest = command[at + start.len()..].split(is_end).next()?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let (host, port) = match authority.split_once(':') {
        Some((host, port)) => (host, port.parse().ok()?),
        None => (authority, default_port),
    };
    let is_host = host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    let is_path = path.chars().all(|c| c.is_ascii_graphic());
    let address = HttpAddress { scheme, host: host_name(host), port, path: format!("/{path}") };
    (is_host && is_path && !host.is_empty()).then_some(address)
}

impl HttpAddress {
    /// An address of a path at a port.
    pub(crate) fn new(is_encrypted: bool, host: &str, port: u16, path: &str) -> Self {
        let path = path.split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
        let scheme = if is_encrypted { "https" } else { "http" };
        Self { scheme, host: host.to_owned(), port, path: format!("/{path}") }
    }

    /// Whether it is an address of the container itself.
    pub(crate) fn is_own(&self) -> bool {
        self.host == "localhost"
    }

    /// The same path elsewhere.
    pub(crate) fn moved(self, host: &str, port: u16) -> Self {
        Self { host: host.to_owned(), port, ..self }
    }

    /// Whether it says only that a process is alive.
    pub(crate) fn asks_liveness(&self) -> bool {
        let last = self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        LIVENESS.contains(&last.to_ascii_lowercase().as_str())
    }

    /// The path alone.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// As it is written.
    pub(crate) fn url(&self) -> String {
        format!("{}://{}:{}{}", self.scheme, self.host, self.port, self.path)
    }
}

/// What is said instead of a probe that would not tell readiness.
pub(crate) fn liveness_remark(address: &HttpAddress) -> String {
    format!(
        "its check asks {}, which by its name says alive, not ready: name the address that says ready, as probe",
        address.path()
    )
}

/// A length of time as compose writes it.
pub(crate) fn span(text: &str) -> Option<Span> {
    text.parse::<Span>().ok().filter(|span| *span > Span::default())
}

/// A length of time in seconds, as Kubernetes writes it.
pub(crate) fn seconds(count: Option<u64>) -> Option<Span> {
    count.filter(|count| (1..=86_400).contains(count)).map(Span::from_secs)
}

/// A probe at an address, with nothing said of how often.
pub(crate) fn at(address: &HttpAddress) -> FoundProbe {
    FoundProbe { url: address.url(), ..FoundProbe::default() }
}

/// A probe that notices later than this is none: an hour of an RTO would be gone before anybody knows.
const NOTICES_WITHIN: Span = Span::from_secs(15 * 60);

/// A probe as a plan can use it: of one that asks too seldom only the address, and what is said of that.
pub(crate) fn usable(probe: FoundProbe) -> (FoundProbe, Option<String>) {
    let interval = probe.interval.unwrap_or(Span::from_secs(10));
    let noticed = interval.times(probe.failures.unwrap_or(3)).plus(probe.timeout.unwrap_or_default());
    if noticed <= NOTICES_WITHIN {
        return (probe, None);
    }
    let remark = format!("its check would notice only after {noticed}: Lifeboat asks more often");
    (FoundProbe { url: probe.url, ..FoundProbe::default() }, Some(remark))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(command: &str) -> Option<String> {
        http_address(command).map(|address| address.url())
    }

    #[test]
    fn addresses_are_found_in_commands() {
        for (command, found) in [
            ("CMD curl -sf http://localhost:8080/healthz", "http://localhost:8080/healthz"),
            ("curl -f 'https://user:hunter2@api/ready?token=hunter2' || exit 1", "https://api:443/ready"),
            ("wget http://127.0.0.1:3000", "http://localhost:3000/"),
        ] {
            assert_eq!(url(command).as_deref(), Some(found), "{command}");
        }
        for none in ["pg_isready -U a", "http://", "curl http://h:port/x", "curl http:///x"] {
            assert_eq!(url(none), None, "{none}");
        }
    }

    #[test]
    fn liveness_is_known_by_its_name() {
        let asks = |url: &str| http_address(url).unwrap().asks_liveness();
        assert!(asks("http://a/healthz") && asks("http://a/x/live/"));
        assert!(!asks("http://a/readyz") && !asks("http://a/health") && !asks("http://a/"));
    }

    #[test]
    fn what_asks_too_seldom_gives_its_address_alone() {
        let probe = |interval: &str| FoundProbe {
            url: "http://a/ready".to_owned(),
            interval: span(interval),
            failures: Some(3),
            ..FoundProbe::default()
        };
        assert_eq!(usable(probe("30s")), (probe("30s"), None));
        let (usable, remark) = usable(probe("1h"));
        assert_eq!((usable.url.as_str(), usable.interval, usable.failures), ("http://a/ready", None, None));
        assert!(remark.unwrap().contains("3h"));
    }
}
