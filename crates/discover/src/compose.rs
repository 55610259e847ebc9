//! Compose files: the services of a host, the engines of stores among them, what they need and where they keep data
//! (<https://github.com/compose-spec/compose-spec>).

use crate::address;
use crate::found::{Engine, PassedOver, Sight, Undone};
use crate::images::{engine_of, is_client};
use crate::probe::{self, HttpAddress, http_address, liveness_remark};
use crate::read;
use crate::sighting::{Need, Place, Rank, SeenService, Sightings};
use crate::variables::{Known, address_remark, bare, parse_env};
use crate::walk::{Tree, parent_of, resolve};
use crate::yaml::{Document, Kind, entries, items, number_at, text, text_at};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// How long an env file may be.
const MAX_ENV_FILE: u64 = 256 * 1024;

/// Where addresses of containers hold.
const NETWORK: &str = "the network of the containers";

/// Looks at every compose file.
pub(crate) fn look(root: &Path, tree: &Tree, documents: &[Document], known: &Known, seen: &mut Sightings) {
    for document in documents.iter().filter(|document| document.kind == Kind::Compose) {
        for (name, definition) in entries(document.value.get("services")) {
            let container = Container { root, tree, known, file: &document.file, name, definition };
            container.look(seen);
        }
    }
}

/// A service of a compose file.
struct Container<'a> {
    root: &'a Path,
    tree: &'a Tree,
    known: &'a Known,
    file: &'a str,
    name: &'a str,
    definition: &'a Value,
}

/// A port of a container, and where it is reached on this host.
struct Port {
    published: Option<u16>,
    target: u16,
}

/// What of a host is mounted into a container.
enum Mount {
    Folder(String),
    Outside(String),
    Volume(String),
}

impl Container<'_> {
    fn look(&self, seen: &mut Sightings) {
        let image = text_at(self.definition, "/image").map(|image| self.known.interpolate(&image));
        let command = self.words("command") + " " + &self.words("entrypoint");
        let engine = image.as_deref().and_then(engine_of);
        match engine.filter(|_| !is_client(&command)) {
            Some(engine) => self.look_at_store(engine, seen),
            None => self.look_at_service(seen),
        }
        if is_client(&command) {
            seen.undone.push(Undone::backups_of(self.name, self.sight("command")));
        }
    }

    fn sight(&self, key: &str) -> Sight {
        Sight::key(self.file, format!("services.{}.{key}", self.name))
    }

    /// A command or the like, which is one text or a list of words.
    fn words(&self, key: &str) -> String {
        let value = self.definition.get(key);
        let list: Vec<String> = items(value).filter_map(text).collect();
        let words = value.and_then(text).unwrap_or_else(|| list.join(" "));
        self.known.interpolate(&words)
    }

    fn look_at_store(&self, engine: Engine, seen: &mut Sightings) {
        let environment = self.environment(seen);
        let value = |name: &str| environment.get(name).map(String::as_str).filter(|value| !value.is_empty());
        let port = address::default_port(engine);
        let published = self.ports().into_iter().find(|own| own.target == port).and_then(|own| own.published);
        let (host, shown) = published.map_or((self.name, port), |published| ("localhost", published));
        let mut store = bare(&address::of_server(
            engine,
            host,
            shown,
            value("POSTGRES_USER").or((engine == Engine::Postgres).then_some("postgres")),
            value("POSTGRES_DB").or(value("POSTGRES_USER")),
        ));
        store.places.push(address::place_of(self.name, port));
        store.hints.push(crate::naming::slug(self.name));
        if published.is_some() {
            store.written.rank = Rank::Published;
        }
        store.written.remark = address_remark(engine, published.is_none().then_some(NETWORK));
        store.seen.push(self.sight("image"));
        seen.stores.push(store);
        let folders = self.mounts().into_iter().filter_map(|(mount, seen)| match mount {
            Mount::Folder(path) => Some((path, seen)),
            Mount::Outside(_) | Mount::Volume(_) => None,
        });
        seen.engine_folders.extend(folders);
    }

    fn look_at_service(&self, seen: &mut Sightings) {
        let ports = self.ports();
        let mut service = SeenService {
            name: self.name.to_owned(),
            needs: self.depends_on(),
            ports: ports.iter().filter_map(|port| port.published).collect(),
            seen: vec![Sight::key(self.file, format!("services.{}", self.name))],
            ..SeenService::default()
        };
        for (name, value) in self.environment(seen) {
            self.address(&name, &value, &mut service, seen);
        }
        for (mount, sight) in self.mounts() {
            self.mount(mount, sight, &mut service, seen);
        }
        self.probe(&ports, &mut service);
        let is_reached = !ports.is_empty() || self.definition.get("healthcheck").is_some();
        if is_reached {
            seen.services.push(service);
        }
    }

    fn depends_on(&self) -> Vec<Need> {
        let value = self.definition.get("depends_on");
        let listed = items(value).filter_map(text);
        let mapped = entries(value).map(|(name, _)| name.to_owned());
        listed.chain(mapped).map(Need::Named).collect()
    }

    /// The container's variables, also those of its env files.
    fn environment(&self, seen: &mut Sightings) -> BTreeMap<String, String> {
        let mut variables = BTreeMap::new();
        for file in self.env_files() {
            match read::text(&self.root.join(&file), MAX_ENV_FILE) {
                Ok(text) => variables.extend(parse_env(&text)),
                // Those of the folder are looked at by themselves, and one that is missing is made elsewhere.
                Err(_) if !self.tree.files.contains(&file) => {}
                Err(why) => seen.passed_over.push(PassedOver { path: file, why, is_missed: true }),
            }
        }
        let value = self.definition.get("environment");
        variables.extend(entries(value).filter_map(|(name, value)| Some((name.to_owned(), text(value)?))));
        variables.extend(items(value).filter_map(text).map(|line| match line.split_once('=') {
            Some((name, value)) => (name.to_owned(), value.to_owned()),
            None => (line.clone(), format!("${{{line}}}")),
        }));
        variables.into_iter().map(|(name, value)| (name, self.known.interpolate(&value))).collect()
    }

    fn env_files(&self) -> Vec<String> {
        let value = self.definition.get("env_file");
        let one = value.and_then(text).into_iter();
        let many = items(value).filter_map(|item| text(item).or_else(|| text_at(item, "/path")));
        let written: Vec<String> = one.chain(many).map(|path| self.known.interpolate(&path)).collect();
        written.iter().filter_map(|path| resolve(parent_of(self.file), path)).collect()
    }

    /// A variable of the container that holds the address of a store.
    fn address(&self, name: &str, value: &str, service: &mut SeenService, seen: &mut Sightings) {
        let Some(address) = address::read(value) else { return };
        if matches!(address.places.as_slice(), [Place::Path(_)]) {
            return;
        }
        // `localhost` in a container is the container.
        let is_own = |place: &Place| matches!(place, Place::Server { host, .. } if host == "localhost");
        if address.places.iter().any(is_own) && !value.contains("host.docker.internal") {
            return;
        }
        service.needs.extend(address.places.iter().cloned().map(Need::Store));
        let mut store = bare(&address);
        store.written.remark = address_remark(address.engine, Some(NETWORK));
        store.seen.push(self.sight(&format!("environment.{name}")));
        seen.stores.push(store);
    }

    fn mounts(&self) -> Vec<(Mount, Sight)> {
        let listed = items(self.definition.get("volumes"));
        listed.filter_map(|item| Some((self.mount_of(item)?, self.sight("volumes")))).collect()
    }

    /// Reads one volume, in its short or its long form. What is mounted read-only is no data of the service.
    fn mount_of(&self, item: &Value) -> Option<Mount> {
        let (source, is_read_only) = match text(item) {
            Some(short) => {
                let short = self.known.interpolate(&short);
                let mut parts = short.split(':');
                let source = parts.next()?.to_owned();
                parts.next()?;
                let is_read_only = parts.next().is_some_and(|mode| mode.split(',').any(|word| word == "ro"));
                (source, is_read_only)
            }
            None => {
                let source = self.known.interpolate(&text_at(item, "/source")?);
                (source, text_at(item, "/read_only").is_some_and(|word| word == "true"))
            }
        };
        if is_read_only || source.is_empty() {
            return None;
        }
        match source.chars().next()? {
            '.' => Some(resolve(parent_of(self.file), &source).map_or(Mount::Outside(source), Mount::Folder)),
            '/' | '~' => Some(Mount::Outside(source)),
            _ => Some(Mount::Volume(source)),
        }
    }

    fn mount(&self, mount: Mount, sight: Sight, service: &mut SeenService, seen: &mut Sightings) {
        match mount {
            Mount::Folder(path) => {
                service.needs.push(Need::Below(path.clone()));
                seen.mounts.push((path, sight));
            }
            Mount::Outside(path) if is_of_the_system(&path) => {}
            Mount::Outside(path) => seen.undone.push(Undone {
                what: format!("the folder {path} of the service {}", self.name),
                why: "it is outside of what was looked at: make it a dataset if it holds data".to_owned(),
                seen: vec![sight],
            }),
            Mount::Volume(name) => seen.undone.push(Undone {
                what: format!("the volume {name} of the service {}", self.name),
                why: "`docker volume inspect` says where it is: make that folder, or the databases in it, datasets"
                    .to_owned(),
                seen: vec![sight],
            }),
        }
    }

    fn ports(&self) -> Vec<Port> {
        let published = items(self.definition.get("ports")).filter_map(|item| self.port(item));
        let exposed = items(self.definition.get("expose")).filter_map(|item| text(item)?.parse().ok());
        published.chain(exposed.map(|target| Port { published: None, target })).collect()
    }

    /// Reads one port: `[ADDRESS:][PUBLISHED:]TARGET[/tcp]`, or a mapping.
    fn port(&self, item: &Value) -> Option<Port> {
        let Some(short) = text(item) else {
            let target = number_at(item, "/target")?.try_into().ok()?;
            let published = text_at(item, "/published").map(|port| self.known.interpolate(&port));
            return Some(Port { published: published.and_then(|port| port.parse().ok()), target });
        };
        let short = self.known.interpolate(&short);
        let short = short.strip_suffix("/tcp").unwrap_or(&short);
        let mut parts = short.rsplit(':');
        let target = parts.next()?.parse().ok()?;
        Some(Port { published: parts.next().and_then(|port| port.parse().ok()), target })
    }

    fn probe(&self, ports: &[Port], service: &mut SeenService) {
        let Some(check) = self.definition.get("healthcheck") else { return };
        let list: Vec<String> = items(check.get("test")).filter_map(text).collect();
        let command = check.get("test").and_then(text).unwrap_or_else(|| list.join(" "));
        let Some(address) = http_address(&self.known.interpolate(&command)) else { return };
        let address = self.reached_at(address, ports);
        if address.asks_liveness() {
            service.remarks.push(liveness_remark(&address));
            return;
        }
        let span = |key: &str| text_at(check, key).and_then(|length| probe::span(&length));
        let mut probe = probe::at(&address);
        probe.interval = span("/interval");
        probe.timeout = span("/timeout");
        probe.start_period = span("/start_period");
        probe.failures =
            number_at(check, "/retries").and_then(|count| count.try_into().ok()).filter(|count| *count > 0);
        let (probe, remark) = probe::usable(probe);
        service.remarks.extend(remark);
        service.probe = Some(probe);
    }

    /// Where an address within the container is reached from this host.
    fn reached_at(&self, address: HttpAddress, ports: &[Port]) -> HttpAddress {
        if !address.is_own() {
            return address;
        }
        let published = ports.iter().find(|port| port.target == address.port).and_then(|port| port.published);
        match published {
            Some(port) => address.moved("localhost", port),
            None => {
                let port = address.port;
                address.moved(&address::host_name(self.name), port)
            }
        }
    }
}

/// Sockets and the like, which are no data.
fn is_of_the_system(path: &str) -> bool {
    ["/var/run", "/run", "/proc", "/sys", "/dev", "/etc", "/tmp"]
        .iter()
        .any(|folder| crate::walk::is_below(path, folder))
}
