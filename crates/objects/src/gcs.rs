//! Google Cloud Storage, by the library that S3 uses. Compiled and never tried against the real service
//! (docs/storage.md).

use crate::ObjectError;
use crate::ObjectErrorKind;
use crate::location::Location;
use crate::remote::{self, Connector, DEFAULT_TIMEOUT, RemoteConfig, RemoteStore, about_store};
use object_store::gcp::GoogleCloudStorageBuilder;

/// A store on Google Cloud Storage. Credentials come from the environment (`GOOGLE_APPLICATION_CREDENTIALS`
/// and the like).
///
/// # Errors
/// [`ObjectErrorKind::Other`] where the environment makes no sense.
pub fn connect(bucket: &str, prefix: &str) -> Result<RemoteStore, ObjectError> {
    let location = Location::Gcs { bucket: bucket.to_owned(), prefix: prefix.to_owned() }.to_string();
    let built = GoogleCloudStorageBuilder::from_env()
        .with_bucket_name(bucket)
        .with_retry(remote::no_retries())
        .with_http_connector(Connector { timeout: DEFAULT_TIMEOUT })
        .build();
    let bucket = built.map_err(|error| about_store(&location, ObjectErrorKind::Other, error))?;
    let config =
        RemoteConfig { prefix: prefix.to_owned(), location, timeout: DEFAULT_TIMEOUT, ordered: true };
    RemoteStore::new(bucket, config)
}
