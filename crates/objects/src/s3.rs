//! S3, and servers that speak its protocol.
//!
//! Objects are created with `If-None-Match: *`; a server that does not know it overwrites, which
//! [`crate::suitability`] finds out. Credentials are given, or come from the environment as Amazon's own
//! tools read it (`AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`, a web identity, a container's or the
//! machine's role); files under `~/.aws` are not read.

use crate::location::{S3Location, is_bucket, is_endpoint, is_prefix, is_safe};
use crate::remote::{self, Connector, DEFAULT_TIMEOUT, RemoteConfig, RemoteStore, about_store};
use crate::{ObjectError, ObjectErrorKind};
use lifeboat_base::Secret;
use object_store::ClientOptions;
use object_store::aws::{AmazonS3, AmazonS3Builder, S3ConditionalPut};
use std::env;
use std::sync::Arc;
use std::time::Duration;

/// A store on S3.
pub type S3Store = RemoteStore;

/// The variables of which at least one is set where the environment itself holds or names credentials.
const CREDENTIAL_VARIABLES: [&str; 5] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
];

/// The variables that name another server than Amazon's, the first that is set counting.
const ENDPOINT_VARIABLES: [&str; 3] = ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT"];

/// Who we are to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Credentials {
    /// What the environment says.
    #[default]
    Environment,
    /// A pair of keys.
    Keys {
        /// The public half.
        access_key: String,
        /// The secret half.
        secret_key: Secret,
        /// A session's token, where the keys are temporary.
        session_token: Option<Secret>,
    },
}

/// How to reach a store on S3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Config {
    /// Where it is.
    pub location: S3Location,
    /// Who we are.
    pub credentials: Credentials,
    /// The longest silence of the server ([`crate::remote`]).
    pub timeout: Duration,
}

impl S3Config {
    /// A location, with credentials from the environment.
    pub fn new(location: S3Location) -> Self {
        let timeout = location.timeout().unwrap_or(DEFAULT_TIMEOUT);
        Self { location, credentials: Credentials::Environment, timeout }
    }

    /// The same with a pair of keys.
    #[must_use]
    pub fn with_keys(mut self, access_key: impl Into<String>, secret_key: Secret) -> Self {
        self.credentials =
            Credentials::Keys { access_key: access_key.into(), secret_key, session_token: None };
        self
    }

    fn check(&self) -> Result<(), &'static str> {
        let S3Location { bucket, prefix, endpoint, allow_http, .. } = &self.location;
        if !is_bucket(bucket) || !is_prefix(prefix) {
            return Err("the bucket or the prefix is malformed");
        }
        match endpoint {
            Some(endpoint) if !is_endpoint(endpoint) => Err("the endpoint is malformed"),
            Some(endpoint) if !allow_http && !is_safe(endpoint) => Err("the endpoint is not encrypted"),
            _ => Ok(()),
        }
    }

    /// Takes the server from the environment where the credentials come from there and none was given.
    fn resolved(mut self) -> Self {
        if self.credentials == Credentials::Environment && self.location.endpoint.is_none() {
            let named = ENDPOINT_VARIABLES.iter().find_map(|name| env::var(name).ok());
            self.location.endpoint = named.map(|endpoint| endpoint.trim_end_matches('/').to_owned());
        }
        self
    }

    /// Amazon lists in the byte order of the names; of others it is not known.
    fn is_ordered(&self) -> bool {
        self.location.ordered || self.location.endpoint.is_none()
    }
}

impl RemoteStore {
    /// A store on S3. Asks the server nothing yet.
    ///
    /// # Errors
    /// [`ObjectErrorKind::Denied`] where there are no credentials, [`ObjectErrorKind::Other`] where the
    /// configuration makes no sense.
    pub fn connect(config: S3Config) -> Result<Self, ObjectError> {
        let config = config.resolved();
        let location = config.location.to_string();
        let fail = |what: String| about_store(&location, ObjectErrorKind::Other, what);
        config.check().map_err(|what| fail(what.to_owned()))?;
        let bucket = build(&config).map_err(|error| fail(lifeboat_base::report(&*error)))?;
        let credentials = Arc::clone(bucket.credentials());
        let remote = RemoteConfig {
            prefix: config.location.prefix.clone(),
            location: location.clone(),
            timeout: config.timeout,
            ordered: config.is_ordered(),
        };
        let store = Self::new(bucket, remote)?;
        if config.credentials == Credentials::Environment && !names_credentials() {
            let found = store.within_limit(async move { credentials.get_credential().await });
            found.map_err(|_| {
                let what = "AWS_ACCESS_KEY_ID is not set, and this machine has no role of its own";
                about_store(&location, ObjectErrorKind::Denied, what)
            })?;
        }
        Ok(store)
    }
}

fn names_credentials() -> bool {
    CREDENTIAL_VARIABLES.iter().any(|name| env::var_os(name).is_some())
}

fn build(config: &S3Config) -> Result<AmazonS3, Box<dyn std::error::Error + Send + Sync>> {
    let S3Location { bucket, region, endpoint, allow_http, .. } = &config.location;
    let allow_http =
        *allow_http || endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
    let mut builder = match &config.credentials {
        Credentials::Environment => AmazonS3Builder::from_env(),
        keys => with_keys(AmazonS3Builder::new(), keys)?,
    };
    if let Some(region) = region {
        builder = builder.with_region(region);
    }
    if let Some(endpoint) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    let built = builder
        .with_bucket_name(bucket)
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        .with_disable_bulk_delete(true)
        .with_client_options(ClientOptions::new().with_allow_http(allow_http))
        .with_retry(remote::no_retries())
        .with_http_connector(Connector { timeout: config.timeout })
        .build()?;
    Ok(built)
}

fn with_keys(
    builder: AmazonS3Builder,
    keys: &Credentials,
) -> Result<AmazonS3Builder, Box<dyn std::error::Error + Send + Sync>> {
    let Credentials::Keys { access_key, secret_key, session_token } = keys else { return Ok(builder) };
    let text = |secret: &Secret| match std::str::from_utf8(secret.expose()) {
        Ok(text) => Ok(text.to_owned()),
        Err(_) => Err("the secret key is not text"),
    };
    let builder = builder.with_access_key_id(access_key).with_secret_access_key(text(secret_key)?);
    Ok(match session_token {
        Some(token) => builder.with_token(text(token)?),
        None => builder,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Location;

    fn config(url: &str) -> S3Config {
        match Location::parse(url).unwrap() {
            Location::S3(location) => {
                S3Config::new(location).with_keys("access", Secret::new(b"HUNTER2".to_vec()))
            }
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_configuration_that_makes_no_sense_is_refused() {
        let mut broken = config("s3://bucket");
        broken.location.bucket = "No Bucket".to_owned();
        assert_eq!(S3Store::connect(broken).unwrap_err().kind, ObjectErrorKind::Other);
        let mut open = config("s3://bucket");
        open.location.endpoint = Some("http://10.0.0.1".to_owned());
        assert_eq!(S3Store::connect(open).unwrap_err().kind, ObjectErrorKind::Other);
    }

    #[test]
    fn neither_a_store_nor_its_configuration_shows_the_secret() {
        let config = config("s3://bucket/p?endpoint=http://127.0.0.1:1&region=eu-1");
        assert!(!format!("{config:?}").contains("HUNTER2"));
        let store = S3Store::connect(config).unwrap();
        assert!(!format!("{store:?}").contains("HUNTER2"));
        assert_eq!(
            crate::ObjectStore::location(&store),
            "s3://bucket/p?region=eu-1&endpoint=http://127.0.0.1:1"
        );
    }

    #[test]
    fn only_amazons_own_order_is_taken_for_granted() {
        assert!(config("s3://bucket").is_ordered());
        assert!(!config("s3://bucket?endpoint=https://minio.example").is_ordered());
        assert!(config("s3://bucket?endpoint=https://minio.example&listing=ordered").is_ordered());
    }
}
