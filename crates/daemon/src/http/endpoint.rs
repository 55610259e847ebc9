//! Every path that is answered, in one table: the router, the checks of each request and the document are all made
//! from it, so that they cannot say different things.

use super::Inner;
use super::answer::{Answer, Media};
use super::document::Shape;
use super::fault::{Fault, Refusal};
use super::parameter::{Asked, Kind, LARGEST, Parameter, Place};
use super::shapes::{
    Build, CopiesShown, DatasetsShown, Document, EventsShown, Health, JobShown, JobsShown, PointsShown,
    Readiness, ServicesShown, Threads,
};
use super::{api, probes};
use crate::record::JobOutcome;
use crate::report::Report;

/// How an endpoint is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) enum How {
    /// From memory.
    AtOnce(fn(&Inner, &Asked) -> Result<Answer, Fault>),
    /// The state, the repository or the disk is asked.
    Slowly(fn(&Inner, &Asked) -> Result<Answer, Fault>),
}

/// A path, and everything about it.
#[derive(Debug)]
pub(crate) struct Endpoint {
    pub(crate) path: &'static str,
    /// What programs call it.
    pub(crate) name: &'static str,
    /// What it gives, for people.
    pub(crate) summary: &'static str,
    pub(crate) needs_token: bool,
    /// Whether it also gives events as they happen.
    pub(crate) streams: bool,
    pub(crate) parameters: &'static [Parameter],
    /// What is answered, by status.
    pub(crate) answers: &'static [(u16, Media, Shape)],
    /// The codes of what may be answered instead, beside those that any endpoint of its kind may give.
    pub(crate) refuses: &'static [u16],
    pub(crate) how: How,
}

const fn open(path: &'static str, name: &'static str, summary: &'static str, how: How) -> Endpoint {
    Endpoint {
        path,
        name,
        summary,
        needs_token: false,
        streams: false,
        parameters: &[],
        answers: &[],
        refuses: &[],
        how,
    }
}

const fn closed(path: &'static str, name: &'static str, summary: &'static str, how: How) -> Endpoint {
    Endpoint { needs_token: true, ..open(path, name, summary, how) }
}

const fn limit(what: &'static str) -> Parameter {
    let kind = Kind::Whole { least: 1, most: 1000, usual: Some(100) };
    Parameter { name: "limit", place: Place::Query, what, kind }
}

const DATASET: Parameter = Parameter {
    name: "name",
    place: Place::Path,
    what: "The dataset, as the plan names it.",
    kind: Kind::Name,
};

const OUTCOMES: &[&str] = &[
    "running",
    JobOutcome::Done.word(),
    JobOutcome::LeftOut.word(),
    JobOutcome::Inconclusive.word(),
    JobOutcome::Failed.word(),
    JobOutcome::Interrupted.word(),
];

/// The table.
pub(crate) const ENDPOINTS: &[Endpoint] = &[
    Endpoint {
        answers: &[(200, Media::Json, Shape::of::<super::shapes::Alive>())],
        ..open("/healthz", "healthz", "Whether the service runs.", How::AtOnce(probes::healthz))
    },
    Endpoint {
        answers: &[
            (200, Media::Json, Shape::of::<Readiness>()),
            (503, Media::Json, Shape::of::<Readiness>()),
        ],
        ..open(
            "/readyz",
            "readyz",
            "Whether the start is complete: the state and the repository open, what a crash interrupted settled, \
             and everything surveyed once. Not so again while the service ends.",
            How::AtOnce(probes::readyz),
        )
    },
    Endpoint {
        answers: &[(200, Media::Json, Shape::of::<Health>()), (503, Media::Json, Shape::of::<Health>())],
        ..closed(
            "/health",
            "health",
            "What the service stands on: its state, the repository, the copies, the stores, the keys. Each is down \
             after three failures in a row and up again after two successes; 503 where one is down.",
            How::AtOnce(probes::health),
        )
    },
    Endpoint {
        answers: &[(200, Media::Json, Shape::of::<Threads>())],
        ..open(
            "/health/threads",
            "threads",
            "The threads of the service, by name.",
            How::Slowly(probes::threads),
        )
    },
    Endpoint {
        answers: &[(200, Media::Json, Shape::of::<Build>())],
        ..open("/health/build", "build", "What the service was built from.", How::AtOnce(probes::build))
    },
    Endpoint {
        answers: &[(200, Media::Metrics, Shape::Text)],
        ..open(
            "/metrics",
            "metrics",
            "Everything that is measured, for Prometheus.",
            How::AtOnce(probes::metrics),
        )
    },
    Endpoint {
        answers: &[(200, Media::Json, Shape::of::<Report>())],
        ..closed(
            "/api/v1/status",
            "status",
            "Objectives against what is: everything that `lifeboat status` shows.",
            How::AtOnce(api::status),
        )
    },
    Endpoint {
        parameters: &[
            Parameter {
                name: "state",
                place: Place::Query,
                what: "Only those that stand so.",
                kind: Kind::Word(super::shapes::STATES),
            },
            Parameter {
                name: "after",
                place: Place::Query,
                what: "Only those whose names come behind.",
                kind: Kind::Name,
            },
            limit("So many at the most, by name."),
        ],
        answers: &[(200, Media::Json, Shape::of::<DatasetsShown>())],
        ..closed("/api/v1/datasets", "datasets", "The datasets, by name.", How::AtOnce(api::datasets))
    },
    Endpoint {
        parameters: &[DATASET],
        answers: &[(200, Media::Json, Shape::of::<super::shapes::DatasetShown>())],
        refuses: &[404],
        ..closed("/api/v1/datasets/{name}", "dataset", "One dataset.", How::AtOnce(api::dataset))
    },
    Endpoint {
        parameters: &[DATASET, limit("So many snapshots at the most, the newest first.")],
        answers: &[(200, Media::Json, Shape::of::<PointsShown>())],
        refuses: &[404],
        ..closed(
            "/api/v1/datasets/{name}/points",
            "points",
            "What a dataset can be restored to: its snapshots, and the stretches of its log.",
            How::Slowly(api::points),
        )
    },
    Endpoint {
        answers: &[(200, Media::Json, Shape::of::<ServicesShown>())],
        ..closed("/api/v1/services", "services", "The services, by name.", How::AtOnce(api::services))
    },
    Endpoint {
        parameters: &[
            Parameter {
                name: "kind",
                place: Place::Query,
                what: "Only those that did so.",
                kind: Kind::Word(super::shapes::KINDS),
            },
            Parameter {
                name: "subject",
                place: Place::Query,
                what: "Only those about this dataset or copy.",
                kind: Kind::Name,
            },
            Parameter {
                name: "outcome",
                place: Place::Query,
                what: "Only those that ended so, or have not ended.",
                kind: Kind::Word(OUTCOMES),
            },
            Parameter {
                name: "before",
                place: Place::Query,
                what: "Only those with a smaller number: the `next` of the page before.",
                kind: Kind::Whole { least: 1, most: LARGEST, usual: None },
            },
            limit("So many at the most, the newest first."),
        ],
        answers: &[(200, Media::Json, Shape::of::<JobsShown>())],
        ..closed("/api/v1/jobs", "jobs", "The jobs, the newest first.", How::Slowly(api::jobs))
    },
    Endpoint {
        parameters: &[Parameter {
            name: "id",
            place: Place::Path,
            what: "The number of the job.",
            kind: Kind::Whole { least: 1, most: LARGEST, usual: None },
        }],
        answers: &[(200, Media::Json, Shape::of::<JobShown>())],
        refuses: &[404],
        ..closed("/api/v1/jobs/{id}", "job", "One job.", How::Slowly(api::job))
    },
    Endpoint {
        streams: true,
        parameters: &[
            Parameter {
                name: "since",
                place: Place::Query,
                what: "Only those behind this number: the `next` of the page before.",
                kind: Kind::Whole { least: 0, most: LARGEST, usual: Some(0) },
            },
            limit("So many at the most, the oldest first."),
        ],
        answers: &[(200, Media::Json, Shape::of::<EventsShown>())],
        ..closed(
            "/api/v1/events",
            "events",
            "What happened, in its order. With `Accept: text/event-stream` it goes on as it happens.",
            How::Slowly(api::events),
        )
    },
    Endpoint {
        answers: &[(200, Media::Json, Shape::of::<CopiesShown>())],
        ..closed("/api/v1/copies", "copies", "The copies of the repository.", How::AtOnce(api::copies))
    },
    Endpoint {
        answers: &[(200, Media::Json, Shape::of::<Document>())],
        ..closed("/api/v1/openapi.json", "openapi", "This document.", How::AtOnce(api::openapi))
    },
];

/// What stands in place of an answer.
pub(crate) const REFUSAL: Shape = Shape::of::<Refusal>();

impl Endpoint {
    /// The statuses that may come in place of an answer.
    pub(crate) fn refusals(&self) -> Vec<u16> {
        let mut statuses = self.refuses.to_vec();
        // Any parameter may be unknown.
        statuses.push(400);
        if self.needs_token {
            statuses.extend([401, 503]);
        }
        if matches!(self.how, How::Slowly(_)) {
            statuses.extend([500, 503]);
        }
        statuses.sort_unstable();
        statuses.dedup();
        statuses
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_path_and_no_name_twice() {
        let paths: BTreeSet<_> = ENDPOINTS.iter().map(|endpoint| endpoint.path).collect();
        let names: BTreeSet<_> = ENDPOINTS.iter().map(|endpoint| endpoint.name).collect();
        assert_eq!((paths.len(), names.len()), (ENDPOINTS.len(), ENDPOINTS.len()));
    }

    #[test]
    fn what_is_in_the_path_is_declared() {
        for endpoint in ENDPOINTS {
            let in_path: Vec<_> = endpoint
                .path
                .split('/')
                .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
                .collect();
            let declared: Vec<_> = endpoint
                .parameters
                .iter()
                .filter(|parameter| parameter.place == Place::Path)
                .map(|parameter| parameter.name)
                .collect();
            assert_eq!(in_path, declared, "{}", endpoint.path);
        }
    }

    #[test]
    fn only_what_probes_and_prometheus_ask_is_open() {
        let open: Vec<_> =
            ENDPOINTS.iter().filter(|endpoint| !endpoint.needs_token).map(|e| e.path).collect();
        assert_eq!(open, ["/healthz", "/readyz", "/health/threads", "/health/build", "/metrics"]);
    }
}
