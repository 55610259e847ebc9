//! Container images that run the engine of a store, known by their names.

use crate::found::Engine;

const IMAGES: &[(&str, Engine)] = &[
    ("postgres", Engine::Postgres),
    ("postgresql", Engine::Postgres),
    ("postgis", Engine::Postgres),
    ("pgvector", Engine::Postgres),
    ("timescaledb", Engine::Postgres),
    ("timescaledb-ha", Engine::Postgres),
    ("redis", Engine::Redis),
    ("redis-stack", Engine::Redis),
    ("redis-stack-server", Engine::Redis),
    ("valkey", Engine::Redis),
    ("minio", Engine::Bucket),
    ("vault", Engine::Secrets),
    ("openbao", Engine::Secrets),
    ("mongo", Engine::Foreign("mongodb")),
    ("mongodb", Engine::Foreign("mongodb")),
    ("mysql", Engine::Foreign("mysql")),
    ("mariadb", Engine::Foreign("mysql")),
    ("rabbitmq", Engine::Foreign("rabbitmq")),
    ("clickhouse-server", Engine::Foreign("clickhouse")),
    ("cassandra", Engine::Foreign("cassandra")),
    ("elasticsearch", Engine::Foreign("elasticsearch")),
    ("opensearch", Engine::Foreign("elasticsearch")),
];

/// The engine that an image runs: `registry/path/postgres:16-alpine@sha256:…`.
pub(crate) fn engine_of(image: &str) -> Option<Engine> {
    let image = image.split('@').next().unwrap_or(image);
    let name = image.rsplit('/').next().unwrap_or(image);
    let name = name.split(':').next().unwrap_or(name);
    IMAGES.iter().find(|(known, _)| *known == name).map(|(_, engine)| *engine)
}

/// Programs that talk to an engine: a container that runs one is no server, whatever its image.
const CLIENTS: &[&str] =
    &["pg_dump", "pg_dumpall", "pg_basebackup", "psql", "redis-cli", "mongodump", "mysqldump", "backup"];

/// Whether a command takes backups, or only talks to a server.
pub(crate) fn is_client(command: &str) -> bool {
    command
        .split(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | '-'))
        .any(|word| CLIENTS.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_known_by_the_last_word() {
        assert_eq!(engine_of("postgres"), Some(Engine::Postgres));
        assert_eq!(engine_of("localhost:5000/x/postgres:16-alpine@sha256:0"), Some(Engine::Postgres));
        assert_eq!(engine_of("valkey/valkey:8"), Some(Engine::Redis));
        for other in ["prom/postgres-exporter", "registry/aragora:recovery", "", "postgres/thing"] {
            assert_eq!(engine_of(other), None, "{other}");
        }
    }

    #[test]
    fn a_container_that_dumps_is_no_server() {
        assert!(is_client("sh -c 'while true; do pg_dump -h postgres | gzip > /backups/x; done'"));
        assert!(!is_client("postgres -c wal_level=replica") && !is_client("redis-server --save 60 1"));
    }
}
