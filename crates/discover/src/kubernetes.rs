//! Kubernetes manifests: workloads, what they need, and whether they are ready
//! (<https://kubernetes.io/docs/reference/kubernetes-api/>).

use crate::address;
use crate::found::{Engine, Sight, Undone};
use crate::images::{engine_of, is_client};
use crate::naming::slug;
use crate::probe::{self, HttpAddress, liveness_remark};
use crate::sighting::{Need, Place, SeenService, Sightings};
use crate::variables::{Known, address_remark, bare};
use crate::yaml::{Document, Kind, entries, items, number_at, text, text_at};
use serde_json::Value;
use std::collections::BTreeMap;

/// Kinds whose pods go on running: what users reach.
const RUNNING: &[&str] = &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet"];
/// Kinds whose pods end.
const ENDING: &[&str] = &["Job", "CronJob"];
/// Kinds that hold secrets, or bring them.
const SECRETS: &[&str] = &["Secret", "SealedSecret", "ExternalSecret"];

/// Where addresses of services hold.
const CLUSTER: &str = "the cluster";

/// Looks at every manifest.
pub(crate) fn look(documents: &[Document], known: &Known, seen: &mut Sightings) {
    let manifests: Vec<Manifest<'_>> = documents
        .iter()
        .filter(|document| document.kind == Kind::Manifest)
        .flat_map(|document| flattened(&document.file, &document.value))
        .collect();
    let cluster = Cluster::of(&manifests, known);
    for manifest in &manifests {
        cluster.look(manifest, seen);
    }
    cluster.say_secrets(&manifests, seen);
}

/// One object.
#[derive(Clone, Copy)]
struct Manifest<'a> {
    file: &'a str,
    kind: &'a str,
    name: &'a str,
    value: &'a Value,
}

/// The objects of a document, which may be a list of them.
fn flattened<'a>(file: &'a str, value: &'a Value) -> Vec<Manifest<'a>> {
    let Some(kind) = value.get("kind").and_then(Value::as_str) else { return Vec::new() };
    if kind == "List" {
        return items(value.get("items"))
            .filter(|item| !is_list(item))
            .flat_map(|item| flattened(file, item))
            .collect();
    }
    let name = value.pointer("/metadata/name").and_then(Value::as_str);
    name.map(|name| Manifest { file, kind, name, value }).into_iter().collect()
}

fn is_list(value: &Value) -> bool {
    value.get("kind").and_then(Value::as_str) == Some("List")
}

impl<'a> Manifest<'a> {
    fn sight(&self, key: &str) -> Sight {
        let dot = if key.is_empty() { "" } else { "." };
        Sight::key(self.file, format!("{} {}{dot}{key}", self.kind, self.name))
    }

    /// What its pods are made from.
    fn template(&self) -> Option<&'a Value> {
        match self.kind {
            "Pod" => Some(self.value),
            "CronJob" => self.value.pointer("/spec/jobTemplate/spec/template"),
            _ => self.value.pointer("/spec/template"),
        }
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        items(self.template().and_then(|template| template.pointer("/spec/containers")))
    }

    fn namespace(&self) -> Option<&'a str> {
        self.value.pointer("/metadata/namespace").and_then(Value::as_str)
    }
}

/// Where the value of a variable comes from.
enum Source {
    Value(String),
    Secret(String),
}

/// What manifests refer to in each other.
struct Cluster<'a> {
    known: &'a Known,
    config_maps: BTreeMap<&'a str, &'a Value>,
    services: Vec<&'a Value>,
}

impl<'a> Cluster<'a> {
    fn of(manifests: &[Manifest<'a>], known: &'a Known) -> Self {
        let of_kind = |kind: &'static str| manifests.iter().filter(move |manifest| manifest.kind == kind);
        let data = |manifest: &Manifest<'a>| Some((manifest.name, manifest.value.get("data")?));
        Self {
            known,
            config_maps: of_kind("ConfigMap").filter_map(data).collect(),
            services: of_kind("Service").map(|manifest| manifest.value).collect(),
        }
    }

    fn look(&self, manifest: &Manifest<'a>, seen: &mut Sightings) {
        let api = text_at(manifest.value, "/apiVersion").unwrap_or_default();
        if manifest.kind == "Cluster" && api.starts_with("postgresql.cnpg.io/") {
            let host = format!("{}-rw", manifest.name);
            return self.store(manifest, Engine::Postgres, &host, &BTreeMap::new(), "", seen);
        }
        if RUNNING.contains(&manifest.kind) || ENDING.contains(&manifest.kind) || manifest.kind == "Pod" {
            self.workload(manifest, seen);
        }
    }

    fn workload(&self, manifest: &Manifest<'a>, seen: &mut Sightings) {
        let mut service = SeenService {
            name: manifest.name.to_owned(),
            seen: vec![manifest.sight("")],
            ports: self.service_of(manifest).map(ports_of).unwrap_or_default(),
            ..SeenService::default()
        };
        let (mut is_store, mut is_reached) = (false, false);
        for container in manifest.containers() {
            let variables = self.variables(container);
            let command = words(container, "command") + " " + &words(container, "args");
            let engine = text_at(container, "/image").as_deref().and_then(engine_of);
            if is_client(&command) {
                seen.undone.push(Undone::backups_of(manifest.name, manifest.sight("containers.command")));
            } else if let Some(engine) = engine {
                is_store = true;
                let host = self.host_of(manifest);
                self.store(manifest, engine, &host, &variables, "containers.image", seen);
                continue;
            }
            self.needs(manifest, &variables, &mut service, seen);
            is_reached |= container.get("ports").is_some() || container.get("readinessProbe").is_some();
            self.probe(manifest, container, &mut service);
        }
        if !is_store {
            volumes(manifest, seen);
        }
        if is_reached && RUNNING.contains(&manifest.kind) {
            seen.services.push(service);
        }
    }

    fn store(
        &self,
        manifest: &Manifest<'a>,
        engine: Engine,
        host: &str,
        variables: &BTreeMap<String, Source>,
        key: &str,
        seen: &mut Sightings,
    ) {
        let value = |name: &str| match variables.get(name) {
            Some(Source::Value(value)) => Some(value.as_str()),
            Some(Source::Secret(_)) | None => None,
        };
        let port = address::default_port(engine);
        let (user, database) = (value("POSTGRES_USER"), value("POSTGRES_DB").or(value("POSTGRES_USER")));
        let mut store = bare(&address::of_server(engine, host, port, user, database));
        if let Some(namespace) = manifest.namespace() {
            let longer = ["", ".svc", ".svc.cluster.local"];
            let names = longer.map(|ending| format!("{host}.{namespace}{ending}"));
            store.places.extend(names.iter().map(|name| address::place_of(name, port)));
        }
        store.hints.push(slug(manifest.name));
        store.written.remark = address_remark(engine, Some(CLUSTER));
        store.seen.push(manifest.sight(key));
        seen.stores.push(store);
    }

    /// The variables of a container.
    fn variables(&self, container: &Value) -> BTreeMap<String, Source> {
        let mut variables = BTreeMap::new();
        for source in items(container.get("envFrom")) {
            let map = text_at(source, "/configMapRef/name");
            let data = map.and_then(|name| self.config_maps.get(name.as_str()).copied());
            let values = entries(data)
                .filter_map(|(name, value)| Some((name.to_owned(), Source::Value(text(value)?))));
            variables.extend(values);
        }
        for variable in items(container.get("env")) {
            let name = text_at(variable, "/name");
            if let Some((name, source)) = name.zip(self.source_of(variable)) {
                variables.insert(name, source);
            }
        }
        variables
    }

    fn source_of(&self, variable: &Value) -> Option<Source> {
        if let Some(value) = text_at(variable, "/value") {
            return Some(Source::Value(self.known.interpolate(&value)));
        }
        if let Some(secret) = text_at(variable, "/valueFrom/secretKeyRef/name") {
            return Some(Source::Secret(secret));
        }
        let map = text_at(variable, "/valueFrom/configMapKeyRef/name")?;
        let key = text_at(variable, "/valueFrom/configMapKeyRef/key")?;
        self.config_maps.get(map.as_str())?.get(&key).and_then(text).map(Source::Value)
    }

    /// The stores that a container's variables name.
    fn needs(
        &self,
        manifest: &Manifest<'a>,
        variables: &BTreeMap<String, Source>,
        service: &mut SeenService,
        seen: &mut Sightings,
    ) {
        for (name, source) in variables {
            let Source::Value(value) = source else {
                service.needs.push(Need::Variable(name.clone()));
                continue;
            };
            let Some(address) = address::read(value) else { continue };
            if address.places.iter().any(is_within_the_pod) {
                continue;
            }
            service.needs.extend(address.places.iter().cloned().map(Need::Store));
            let mut store = bare(&address);
            store.written.remark = address_remark(address.engine, Some(CLUSTER));
            store.seen.push(manifest.sight(&format!("env.{name}")));
            seen.stores.push(store);
        }
    }

    fn probe(&self, manifest: &Manifest<'a>, container: &Value, service: &mut SeenService) {
        let Some(check) = container.get("readinessProbe").filter(|_| service.probe.is_none()) else { return };
        let Some(get) = check.get("httpGet") else { return };
        let Some(port) = port_of(container, get.get("port")) else { return };
        let is_encrypted = text_at(get, "/scheme").is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"));
        let path = text_at(get, "/path").unwrap_or_default();
        let outer = self.service_of(manifest).and_then(|service| outer_port(service, container, port));
        let host = self.host_of(manifest);
        let address = HttpAddress::new(is_encrypted, &host, outer.unwrap_or(port), &path);
        if address.asks_liveness() {
            service.remarks.push(liveness_remark(&address));
            return;
        }
        let count = |key: &str| {
            number_at(check, key).and_then(|count| count.try_into().ok()).filter(|count| *count > 0)
        };
        let mut probe = probe::at(&address);
        probe.interval = probe::seconds(number_at(check, "/periodSeconds"));
        probe.timeout = probe::seconds(number_at(check, "/timeoutSeconds"));
        probe.start_period = probe::seconds(number_at(check, "/initialDelaySeconds"));
        probe.failures = count("/failureThreshold");
        probe.successes = count("/successThreshold");
        let (probe, remark) = probe::usable(probe);
        service.remarks.extend(remark);
        service.probe = Some(probe);
    }

    /// The Service that leads to a workload's pods.
    fn service_of(&self, manifest: &Manifest<'_>) -> Option<&'a Value> {
        let labels = manifest.template()?.pointer("/metadata/labels")?;
        let leads = |service: &&&'a Value| {
            let selector = service.pointer("/spec/selector");
            entries(selector).next().is_some()
                && entries(selector).all(|(key, value)| labels.get(key) == Some(value))
        };
        self.services.iter().find(leads).copied()
    }

    fn host_of(&self, manifest: &Manifest<'_>) -> String {
        let service = self.service_of(manifest).and_then(|service| text_at(service, "/metadata/name"));
        service.unwrap_or_else(|| manifest.name.to_owned())
    }

    /// Says each secret once, with the keys that are asked of it.
    fn say_secrets(&self, manifests: &[Manifest<'a>], seen: &mut Sightings) {
        let mut secrets: BTreeMap<String, Vec<Sight>> = BTreeMap::new();
        for manifest in manifests {
            if SECRETS.contains(&manifest.kind) {
                secrets.entry(manifest.name.to_owned()).or_default().push(manifest.sight(""));
            }
            for container in manifest.containers() {
                for (variable, source) in self.variables(container) {
                    if let Source::Secret(secret) = source {
                        let sight = manifest.sight(&format!("env.{variable}"));
                        secrets.entry(secret).or_default().push(sight);
                    }
                }
                let whole =
                    items(container.get("envFrom")).filter_map(|from| text_at(from, "/secretRef/name"));
                whole.for_each(|secret| secrets.entry(secret).or_default().push(manifest.sight("envFrom")));
            }
        }
        seen.undone.extend(secrets.into_iter().map(|(name, seen)| Undone {
            what: format!("the Kubernetes Secret {name}"),
            why: "there is no driver for secrets yet; where it holds a store's address, export that and look again"
                .to_owned(),
            seen,
        }));
    }
}

/// `localhost` in a pod is the pod.
fn is_within_the_pod(place: &Place) -> bool {
    matches!(place, Place::Path(_)) || matches!(place, Place::Server { host, .. } if host == "localhost")
}

fn words(container: &Value, key: &str) -> String {
    items(container.get(key)).filter_map(text).collect::<Vec<_>>().join(" ")
}

fn ports_of(service: &Value) -> Vec<u16> {
    let ports = items(service.pointer("/spec/ports"));
    ports.filter_map(|port| number_at(port, "/port")?.try_into().ok()).collect()
}

/// The number of a container's port, which may be named.
fn port_of(container: &Value, port: Option<&Value>) -> Option<u16> {
    let written = port.and_then(text)?;
    if let Ok(number) = written.parse() {
        return Some(number);
    }
    let named =
        items(container.get("ports")).find(|port| text_at(port, "/name").as_deref() == Some(&written))?;
    number_at(named, "/containerPort")?.try_into().ok()
}

/// The port of a Service behind which a container's port is.
fn outer_port(service: &Value, container: &Value, inner: u16) -> Option<u16> {
    let leads = |port: &&Value| {
        let target = port.get("targetPort").or_else(|| port.get("port"));
        port_of(container, target) == Some(inner)
    };
    number_at(items(service.pointer("/spec/ports")).find(leads)?, "/port")?.try_into().ok()
}

/// Volumes that a workload keeps data in: nothing reads them from outside.
fn volumes(manifest: &Manifest<'_>, seen: &mut Sightings) {
    let claimed = items(manifest.template().and_then(|template| template.pointer("/spec/volumes")))
        .filter_map(|volume| text_at(volume, "/persistentVolumeClaim/claimName"));
    let own = items(manifest.value.pointer("/spec/volumeClaimTemplates"))
        .filter_map(|claim| text_at(claim, "/metadata/name"));
    seen.undone.extend(claimed.chain(own).map(|claim| {
        Undone {
            what: format!("the volume claim {claim} of {} {}", manifest.kind, manifest.name),
            why: "volumes of a cluster are read only where they are mounted: make the folder there a dataset"
                .to_owned(),
            seen: vec![manifest.sight("volumes")],
        }
    }));
}
