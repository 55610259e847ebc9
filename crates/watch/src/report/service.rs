//! How a service stands: whether it answers, how long it would take to be back, and how what it needs stands.

use super::{DatasetReport, Recovery, RecoveryPart, Rto, ServiceReport};
use crate::forecast::{Basis, Forecast, House, Part};
use crate::health;
use crate::observe::Service;
use crate::reason::{Reason, State};
use crate::time::seconds;
use lifeboat_base::clock::Timestamp;
use std::collections::HashMap;
use std::time::Duration;

pub(super) fn reports<'a>(
    services: &'a [Service],
    datasets: &[DatasetReport],
    house: &House<'a>,
    now: Timestamp,
) -> Vec<ServiceReport> {
    let mut reports: Vec<ServiceReport> = services.iter().map(|each| report(each, house, now)).collect();
    let mut states: HashMap<String, State> =
        reports.iter().map(|report| (report.name.clone(), report.state)).collect();
    states.extend(datasets.iter().map(|dataset| (dataset.name.clone(), dataset.state)));
    for (report, service) in reports.iter_mut().zip(services) {
        report.reasons.extend(service.needs.iter().filter_map(|need| need_reason(need, &states)));
        report.state = State::of(&report.reasons);
    }
    reports
}

fn need_reason(need: &str, states: &HashMap<String, State>) -> Option<Reason> {
    let state = states.get(need).copied().filter(|state| *state != State::Ok)?;
    Some(Reason::NeedNotOk { need: need.to_owned(), state })
}

fn report<'a>(service: &'a Service, house: &House<'a>, now: Timestamp) -> ServiceReport {
    let mut reasons = Vec::new();
    judge_probe(service, now, &mut reasons);
    let forecast = house.forecast(service);
    let rto = service.rto.map(|rto| match &forecast {
        Ok(forecast) => judge_forecast(forecast, rto, &mut reasons),
        Err(_) => Rto::CannotTell,
    });
    if let Err(error) = &forecast {
        reasons.push(Reason::NoForecast { why: error.to_string() });
    }
    ServiceReport {
        name: service.name.clone(),
        state: State::of(&reasons),
        reasons,
        probe: service.probe,
        rto_seconds: service.rto.map(seconds),
        rto,
        recovery: forecast.ok().map(recovery),
    }
}

fn judge_probe(service: &Service, now: Timestamp, reasons: &mut Vec<Reason>) {
    match service.probe {
        None | Some(health::Status::Up) => {}
        Some(health::Status::Unknown) => reasons.push(Reason::ServiceUnknown),
        Some(health::Status::Down) => {
            let down = service.down.map(|since| now.since(since));
            reasons.push(Reason::ServiceDown { down_seconds: down.map(seconds) });
            if let Some((down, rto)) = down.zip(service.rto).filter(|(down, rto)| down > rto) {
                let (down_seconds, rto_seconds) = (seconds(down), seconds(rto));
                reasons.push(Reason::DownBeyondRto { down_seconds, rto_seconds });
            }
        }
    }
}

/// A lower bound above the RTO misses it as surely as a whole forecast does.
fn judge_forecast(forecast: &Forecast, rto: Duration, reasons: &mut Vec<Reason>) -> Rto {
    if forecast.p90 > rto {
        let (recovery_seconds, rto_seconds) = (seconds(forecast.p90), seconds(rto));
        reasons.push(Reason::RecoveryAboveRto { recovery_seconds, rto_seconds });
        Rto::Misses
    } else if forecast.at_least {
        reasons.push(Reason::RecoveryUnknown { parts: unknown_parts(forecast) });
        Rto::CannotTell
    } else {
        Rto::Meets
    }
}

/// So many unknown parts are named; how many there are is in the forecast itself.
const NAMED: usize = 5;

fn unknown_parts(forecast: &Forecast) -> Vec<String> {
    let unknown = forecast.parts.iter().filter(|part| part.basis == Basis::Unknown);
    unknown.map(|part| format!("{} of {}", part.activity, part.of)).take(NAMED).collect()
}

fn recovery(forecast: Forecast) -> Recovery {
    Recovery {
        p50_seconds: seconds(forecast.p50),
        p90_seconds: seconds(forecast.p90),
        at_least: forecast.at_least,
        parts: forecast.parts.into_iter().map(recovery_part).collect(),
    }
}

fn recovery_part(part: Part) -> RecoveryPart {
    let known = |duration: Duration| (part.basis != Basis::Unknown).then(|| seconds(duration));
    RecoveryPart {
        p50_seconds: known(part.p50),
        p90_seconds: known(part.p90),
        of: part.of,
        activity: part.activity,
        basis: part.basis,
    }
}
