//! The plan's repository as the mirror of a run.

use crate::context::Context;
use crate::failure::Failure;
use lifeboat_carriers::{ReopeningMirror, RepositoryMirror};
use lifeboat_repository::Repository;
use lifeboat_run::mirror::{Mirror, MirrorError};
use std::sync::Arc;

/// The repository as a mirror.
pub(super) fn mirror(context: &Context) -> Result<Arc<dyn Mirror>, Failure> {
    Ok(Arc::new(RepositoryMirror::new(&context.open()?)?))
}

/// The repository as a mirror of which nothing is wanted but to be read.
pub(super) fn to_look_at(context: &Context) -> Result<Arc<dyn Mirror>, Failure> {
    Ok(Arc::new(RepositoryMirror::for_reading(&context.open()?)))
}

/// The repository as the mirror of a run that this machine has: where it cannot be opened now, it is as soon as it can.
pub(super) fn mirror_in_time(context: &Context) -> Result<Arc<dyn Mirror>, Failure> {
    let (place, open) = (context.location()?.to_string(), context.opener()?);
    let opened = open().and_then(|repository| {
        context.opened(&repository);
        of(&repository)
    });
    match opened {
        Err(failure) if failure.code == 1 => {
            context.output.note(&format!(
                "the run's mirror cannot be reached: {}; it goes on with what is here, and what may be done once waits",
                failure.message
            ));
            let again = move || open().and_then(|repository| of(&repository)).map_err(failed);
            Ok(Arc::new(ReopeningMirror::new(place, &failed(failure), Box::new(again))))
        }
        opened => opened,
    }
}

fn of(repository: &Arc<Repository>) -> Result<Arc<dyn Mirror>, Failure> {
    Ok(Arc::new(RepositoryMirror::new(repository)?))
}

fn failed(failure: Failure) -> MirrorError {
    MirrorError { hint: failure.hint, ..MirrorError::new("open the mirror", failure.message) }
}
