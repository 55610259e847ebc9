//! One thing broken at a time: what state that makes, for which reason, and with which exit code.

use crate::system::{NOW, ago, dataset, report, secs, service, well};
use lifeboat_watch::exposure::Domain;
use lifeboat_watch::health::Status;
use lifeboat_watch::observe::{Dataset, Log, Objectives, Observations, Reach, Verdict};
use lifeboat_watch::report::{Limits, Rto, judge};
use lifeboat_watch::{Reason, State};

#[track_caller]
fn check(change: impl FnOnce(&mut Observations), state: State, code: u8, is_the_reason: fn(&Reason) -> bool) {
    let report = report(change);
    let reasons: Vec<&Reason> = report.all_reasons().collect();
    assert_eq!((report.state, report.exit_code()), (state, code), "{reasons:?}");
    assert!(reasons.into_iter().any(is_the_reason), "{report:#?}");
}

fn users(observed: &mut Observations) -> &mut Dataset {
    &mut observed.datasets[0]
}

fn uploads(observed: &mut Observations) -> &mut Dataset {
    &mut observed.datasets[1]
}

#[test]
fn nothing_wrong_is_ok() {
    let report = report(|_| {});
    let reasons: Vec<&Reason> = report.all_reasons().collect();
    assert_eq!((report.state, report.exit_code(), reasons.as_slice()), (State::Ok, 0, [].as_slice()));
    let exposures: Vec<_> = dataset(&report, "users").exposures.iter().map(|e| e.exposure_seconds).collect();
    assert_eq!(exposures, [Some(1.0), Some(600.0), Some(600.0)]);
    assert_eq!(service(&report).rto, Some(Rto::Meets));
    // 600 to detect and decide, 360 and 600 one after the other, 120 of its own.
    assert_eq!(service(&report).recovery.as_ref().unwrap().p90_seconds, 1680.0);
}

#[test]
fn nothing_observed_is_unknown_and_not_ok() {
    let nothing = Observations { datasets: vec![Dataset::default()], ..Observations::default() };
    let report = judge(&nothing, &Limits::default(), NOW);
    assert_ne!(report.datasets[0].state, State::Ok);
    assert_ne!(report.exit_code(), 0);
    let nobody = judge(&Observations::default(), &Limits::default(), NOW);
    assert_eq!((nobody.state, nobody.exit_code()), (State::AtRisk, 1), "nobody leads");
}

#[test]
fn a_stream_that_is_silent_for_more_than_three_seconds_has_stalled() {
    let is = |reason: &Reason| matches!(reason, Reason::Stalled { silent_seconds } if *silent_seconds == 3.5);
    let at = |millis: u64| {
        move |observed: &mut Observations| {
            let heard = NOW.minus(std::time::Duration::from_millis(millis));
            users(observed).stream.as_mut().unwrap().heard = Some(heard);
        }
    };
    assert_eq!(report(at(3000)).state, State::Ok);
    check(at(3500), State::AtRisk, 1, is);
}

#[test]
fn a_stream_of_which_nothing_was_heard_is_unknown() {
    let silent = |observed: &mut Observations| users(observed).stream.as_mut().unwrap().heard = None;
    check(silent, State::Unknown, 4, |reason| matches!(reason, Reason::NeverHeard));
}

#[test]
fn more_exposed_than_may_be_is_a_breach_and_nearly_so_a_risk() {
    let behind = |seconds| {
        move |observed: &mut Observations| {
            let log = Log { through: ago(seconds), position: Some(900), hole: None };
            users(observed).held[0].log = Some(log);
        }
    };
    check(
        behind(61),
        State::Breach,
        3,
        |reason| matches!(reason, Reason::ExposureAboveRpo { domain: Domain::Host, exposure_seconds, .. } if *exposure_seconds == 61.0),
    );
    check(behind(49), State::AtRisk, 0, |r| matches!(r, Reason::NearRpo { domain: Domain::Host, .. }));
    assert_eq!(report(behind(48)).state, State::Ok);
}

#[test]
fn a_lost_place_takes_what_it_held_with_it() {
    let lost = |observed: &mut Observations| observed.places[1].reach = Reach::Lost;
    check(lost, State::Breach, 1, |reason| {
        matches!(reason, Reason::NothingSurvives { domain: Domain::Region, rpo_seconds: Some(_) })
    });
    check(lost, State::Breach, 1, |reason| matches!(reason, Reason::PlaceLost { place } if place == "west"));
}

#[test]
fn a_repository_that_does_not_answer_is_said_of_its_datasets_too() {
    let report = report(|observed| observed.places[0].reach = Reach::Unreachable(Some(ago(5))));
    assert_eq!((report.state, report.exit_code()), (State::AtRisk, 1));
    let is = |reason: &Reason| matches!(reason, Reason::PlaceUnreachable { place, silent_seconds: Some(5.0) } if place == "main");
    assert!(report.places[0].reasons.iter().any(is));
    assert!(report.datasets.iter().all(|dataset| dataset.reasons.iter().any(is)));
    assert_eq!(service(&report).state, State::AtRisk);
}

#[test]
fn a_place_that_was_not_asked_is_unknown() {
    let unasked = |observed: &mut Observations| observed.places[0].reach = Reach::Unknown;
    check(unasked, State::Unknown, 4, |reason| matches!(reason, Reason::PlaceUnknown { .. }));
}

#[test]
fn a_copy_that_lags_misses_its_objective() {
    let lagging = |observed: &mut Observations| users(observed).held[1].lag_max = Some(secs(300));
    check(
        lagging,
        State::AtRisk,
        3,
        |reason| matches!(reason, Reason::CopyLags { lag_seconds: Some(lag), .. } if *lag == 599.0),
    );
    let empty = |observed: &mut Observations| {
        users(observed).held[1].snapshot = None;
        users(observed).rpo = Objectives::default();
    };
    check(empty, State::AtRisk, 3, |reason| matches!(reason, Reason::CopyLags { lag_seconds: None, .. }));
}

#[test]
fn a_snapshot_that_will_come_too_late_is_seen_before() {
    let takes = |seconds| {
        move |observed: &mut Observations| {
            uploads(observed).schedule.as_mut().unwrap().takes = Some(secs(seconds));
        }
    };
    // Taken 1800 ago, the next due in 1800: 3600 of 7200 are left for taking it.
    assert_eq!(report(takes(3600)).state, State::Ok);
    let is = |reason: &Reason| matches!(reason, Reason::NextSnapshotTooLate { exposure_seconds, .. } if *exposure_seconds == 7201.0);
    check(takes(3601), State::AtRisk, 3, is);
    let running = |observed: &mut Observations| {
        uploads(observed).held[0].snapshot = Some(ago(7100));
        uploads(observed).rpo.host = Some(secs(7200));
        let schedule = uploads(observed).schedule.as_mut().unwrap();
        (schedule.running, schedule.takes) = (Some(ago(10)), Some(secs(200)));
    };
    let too_late = |reason: &Reason| matches!(reason, Reason::NextSnapshotTooLate { .. });
    check(running, State::AtRisk, 3, too_late);
}

#[test]
fn proofs_that_failed_could_not_tell_are_old_or_missing() {
    let last =
        |verdict| move |observed: &mut Observations| users(observed).proof.last = Some((verdict, ago(60)));
    check(last(Verdict::Failed), State::AtRisk, 1, |r| matches!(r, Reason::ProofFailed { .. }));
    let is = |reason: &Reason| matches!(reason, Reason::ProofInconclusive { .. });
    check(last(Verdict::Inconclusive), State::AtRisk, 4, is);
    let old = |observed: &mut Observations| users(observed).proof.proven = Some(ago(27 * 3600));
    check(old, State::AtRisk, 3, |reason| matches!(reason, Reason::ProofTooOld { .. }));
    let never = |observed: &mut Observations| users(observed).proof.proven = None;
    check(never, State::AtRisk, 4, |reason| matches!(reason, Reason::NeverProven));
    let unpromised = |observed: &mut Observations| {
        (users(observed).proof.proven, users(observed).proof.age_max) = (None, None);
    };
    assert_eq!(report(unpromised).state, State::Ok);
}

#[test]
fn a_job_that_is_late_or_fails_is_said_of_its_dataset() {
    let late = |observed: &mut Observations| observed.jobs[0].due = Some(ago(61));
    check(late, State::AtRisk, 1, |reason| matches!(reason, Reason::JobLate { .. }));
    let failed = |observed: &mut Observations| observed.jobs[0].failures = 2;
    check(failed, State::AtRisk, 1, |reason| matches!(reason, Reason::JobFailed { failures: 2, .. }));
    assert_eq!(dataset(&report(failed), "uploads").state, State::AtRisk);
    assert_eq!(dataset(&report(failed), "users").state, State::Ok);
    let running = |observed: &mut Observations| {
        (observed.jobs[0].due, observed.jobs[0].running) = (Some(ago(500)), Some(ago(400)));
    };
    assert_eq!(report(running).state, State::Ok);
}

#[test]
fn stores_components_and_channels_count() {
    let store = |observed: &mut Observations| users(observed).store = Status::Down;
    check(store, State::AtRisk, 1, |reason| matches!(reason, Reason::StoreDown));
    let down = |observed: &mut Observations| observed.components[0].status = Status::Down;
    check(down, State::AtRisk, 1, |reason| matches!(reason, Reason::ComponentDown { .. }));
    let unknown = |observed: &mut Observations| observed.components[0].status = Status::Unknown;
    check(unknown, State::Unknown, 4, |reason| matches!(reason, Reason::ComponentUnknown { .. }));
    let failing = |observed: &mut Observations| observed.channels[0].failing = Some(ago(90));
    check(failing, State::AtRisk, 1, |reason| matches!(reason, Reason::ChannelFailing { .. }));
    let silent = |observed: &mut Observations| observed.channels[0].succeeded = Some(ago(27 * 3600));
    check(silent, State::AtRisk, 1, |reason| matches!(reason, Reason::ChannelSilent { .. }));
    let never = |observed: &mut Observations| observed.channels[0].succeeded = None;
    check(never, State::AtRisk, 1, |r| matches!(r, Reason::ChannelSilent { silent_seconds: None, .. }));
}

#[test]
fn a_service_that_is_down_or_would_be_too_slow() {
    let down = |since| {
        move |observed: &mut Observations| {
            let service = &mut observed.services[0];
            (service.probe, service.down) = (Some(Status::Down), since);
        }
    };
    check(down(None), State::AtRisk, 1, |r| matches!(r, Reason::ServiceDown { down_seconds: None }));
    let is = |reason: &Reason| matches!(reason, Reason::DownBeyondRto { .. });
    check(down(Some(ago(3601))), State::Breach, 1, is);
    let slow = |observed: &mut Observations| observed.services[0].rto = Some(secs(1679));
    check(slow, State::Breach, 3, |reason| matches!(reason, Reason::RecoveryAboveRto { .. }));
    let unsaid = |observed: &mut Observations| uploads(observed).restore.clear();
    check(
        unsaid,
        State::Unknown,
        4,
        |reason| matches!(reason, Reason::RecoveryUnknown { parts } if parts == &["restore of uploads"]),
    );
    let cyclic = |observed: &mut Observations| observed.services[0].needs.push("debates".to_owned());
    check(
        cyclic,
        State::Unknown,
        4,
        |reason| matches!(reason, Reason::NoForecast { why } if why.ends_with("debates → debates")),
    );
}

#[test]
fn a_lower_bound_above_the_rto_misses_it_all_the_same() {
    let report = report(|observed| {
        uploads(observed).restore.clear();
        observed.services[0].rto = Some(secs(60));
    });
    assert_eq!(service(&report).rto, Some(Rto::Misses));
}

#[test]
fn a_clock_that_went_back_makes_nothing_ok() {
    let a_minute = judge(&well(), &Limits::default(), ago(60));
    assert_eq!(dataset(&a_minute, "users").state, State::Unknown);
    for minutes in [60, 600_000] {
        let report = judge(&well(), &Limits::default(), ago(minutes * 60));
        assert!(report.datasets.iter().all(|dataset| dataset.state >= State::Unknown), "{report:#?}");
        assert!(report.all_reasons().any(|reason| matches!(reason, Reason::ClockAhead { .. })));
        assert_eq!(report.exit_code(), 4, "{report:#?}");
    }
}

#[test]
fn nothing_is_promised_and_still_nothing_held_is_no_ok() {
    let bare = |observed: &mut Observations| {
        let dataset = uploads(observed);
        dataset.held.clear();
        dataset.rpo = Objectives::default();
    };
    check(bare, State::AtRisk, 3, |reason| {
        matches!(reason, Reason::NothingSurvives { domain: Domain::Host, rpo_seconds: None })
    });
}

#[test]
fn a_regional_objective_without_a_region_cannot_be_told() {
    let undeclared = |observed: &mut Observations| {
        users(observed).region = None;
        observed.places[0].region = None;
    };
    check(undeclared, State::Unknown, 4, |reason| matches!(reason, Reason::RegionUndeclared));
}
