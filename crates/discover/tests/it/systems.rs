//! Systems in the shapes that people give them: compose on one host, manifests in a cluster, SQLite beside a process.

use crate::{DATABASE, Place, compare};
use lifeboat_discover::{Engine, Sight};
use std::path::PathBuf;

const COMPOSE: &str = r#"
x-logging: &logging
  logging: { driver: json-file }
services:
  aragora:
    <<: *logging
    image: registry.example/aragora:1.4
    container_name: aragora-api
    ports: ["8080:8080", "127.0.0.1:8765:8765"]
    environment:
      DATABASE_URL: postgresql://aragora:${POSTGRES_PASSWORD}@postgres:5432/aragora
      ARAGORA_REDIS_URL: redis://:${REDIS_PASSWORD}@redis:6379/0
      ARAGORA_ENV: ${ARAGORA_ENV:-production}
    depends_on:
      postgres: { condition: service_healthy }
      redis: { condition: service_healthy }
    volumes:
      - ../.nomic:/app/.nomic
      - aragora_uploads:/app/uploads
      - ./config.yaml:/app/config.yaml:ro
    healthcheck:
      test: ["CMD", "curl", "-sf", "http://localhost:8080/healthz"]
      interval: 30s
      timeout: 10s
      retries: 3
      start_period: 30s
  debate-worker:
    image: registry.example/aragora:1.4
    profiles: [workers]
    depends_on: [postgres, redis]
    environment: ["DATABASE_URL=postgresql://aragora:${POSTGRES_PASSWORD}@postgres:5432/aragora"]
  web:
    image: nginx:1.27
    ports: ["80:80"]
    depends_on: [aragora]
    healthcheck:
      test: curl -f http://localhost:80/ready || exit 1
      interval: 1m30s
  postgres:
    image: postgres:16-alpine
    environment:
      POSTGRES_USER: aragora
      POSTGRES_DB: aragora
      POSTGRES_PASSWORD: ${POSTGRES_PASSWORD}
    volumes: ["pgdata:/var/lib/postgresql/data"]
    healthcheck:
      test: ["CMD-SHELL", "pg_isready -U aragora -d aragora"]
  redis:
    image: redis:7
    command: redis-server --requirepass ${REDIS_PASSWORD}
  backup:
    image: postgres:16-alpine
    profiles: [backup]
    command: sh -c 'while true; do pg_dump -h postgres | gzip > /backups/x.sql.gz; sleep 86400; done'
    volumes: ["./backups:/backups"]
volumes: { pgdata: {}, aragora_uploads: {} }
"#;

const MANIFESTS: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: { name: aegis-config }
data:
  MODEL_BUCKET_URL: s3://aegis-models/prod
  CELERY_BROKER_URL: redis://broker:6379/1
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: aegis-api }
spec:
  template:
    metadata: { labels: { app: aegis } }
    spec:
      containers:
        - name: api
          image: ghcr.io/aegis/api:2
          ports: [{ name: http, containerPort: 8000 }]
          envFrom: [{ configMapRef: { name: aegis-config } }]
          env:
            - { name: DATABASE_URL, valueFrom: { secretKeyRef: { name: aegis-db, key: url } } }
          readinessProbe:
            httpGet: { path: /ready, port: http }
            periodSeconds: 10
            failureThreshold: 3
          livenessProbe:
            httpGet: { path: /healthz, port: http }
---
apiVersion: v1
kind: Service
metadata: { name: aegis }
spec:
  selector: { app: aegis }
  ports: [{ port: 80, targetPort: http }]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: { name: aegis-postgres, namespace: aegis }
spec:
  template:
    metadata: { labels: { app: pg } }
    spec:
      containers:
        - name: postgres
          image: postgres:16
          env: [{ name: POSTGRES_DB, value: aegis }]
  volumeClaimTemplates: [{ metadata: { name: data } }]
---
apiVersion: batch/v1
kind: CronJob
metadata: { name: aegis-backup }
spec:
  schedule: "0 2 * * *"
  jobTemplate:
    spec:
      template:
        spec:
          containers:
            - { name: dump, image: "postgres:16", command: [sh, -c, "pg_dump | gzip"] }
"#;

fn snapshot(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/snapshots").join(name)
}

fn aragora() -> Place {
    Place::new()
        .with("deploy/docker-compose.production.yml", COMPOSE)
        .with("deploy/docker-compose.recovery-test.yml", "services: {other: {image: mysql}}")
        .with(".env", "POSTGRES_PASSWORD=hunter2\nREDIS_PASSWORD=hunter3\nOPENAI_API_KEY=hunter4\n")
        .with(".nomic/aragora_users.db", DATABASE)
        .with(".nomic/aragora_users.db-wal", "frames")
        .with(".nomic/aragora_debates.db", DATABASE)
        .with(".nomic/backups/20260101_000000/aragora_users.db", DATABASE)
        .with(".nomic/notes.json", "{}")
        .with(".nomic/empty.db", "")
        .with(".nomic/renamed.bin", DATABASE)
        .variable("ARAGORA_POSTGRES_DSN", "postgresql://aragora:hunter5@postgres:5432/aragora")
        .variable("DATABASE_URL", "postgresql://aragora:hunter5@postgres:5432/aragora")
        .variable("REDIS_URL", "redis://:hunter6@redis:6379")
        .variable("MONGO_URL", "mongodb://u:hunter7@mongo/x")
        .variable("SLACK_WEBHOOK_URL", "https://hooks.example/T0/hunter8")
        .variable("LIFEBOAT_REPOSITORY_URL", "s3://ours/x")
}

#[test]
fn a_host_with_compose_and_sqlite() {
    let (found, text, plan) = aragora().plan();
    compare(&snapshot("compose.toml"), &text);
    let names: Vec<&str> = plan.datasets.keys().map(String::as_str).collect();
    assert_eq!(names, ["aragora-postgres", "aragora_debates", "aragora_users", "nomic", "renamed"]);
    let postgres = &plan.datasets["aragora-postgres"];
    assert_eq!(
        (postgres.store.as_str(), &*postgres.names),
        ("env:DATABASE_URL", &["ARAGORA_POSTGRES_DSN".to_owned()][..])
    );
    assert!(found.datasets.iter().any(|dataset| dataset.engine == Engine::Redis && dataset.seen.len() >= 3));
    let needs = &plan.services["aragora"].needs;
    assert!(
        ["aragora-postgres", "aragora_users", "nomic"].iter().all(|need| needs.iter().any(|n| n == need)),
        "{needs:?}"
    );
    assert_eq!(plan.services["web"].needs, ["aragora"]);
    assert_eq!(plan.services["web"].probe.as_ref().unwrap().url, "http://localhost:80/ready");
    assert_eq!(plan.services["aragora"].probe, None, "healthz says alive, not ready");
    assert!(!plan.services.contains_key("debate-worker"), "nobody reaches it");
}

#[test]
fn no_secret_is_in_what_is_found() {
    let (found, text, _) = aragora().plan();
    for said in [text, format!("{found:?}")] {
        assert!(!said.contains("hunter"), "{said}");
    }
}

#[test]
fn a_cluster_with_manifests() {
    let place = Place::new()
        .with("k8s/base/all.yaml", MANIFESTS)
        .with("charts/k8s/templated.yaml", "kind: Deployment\nmetadata: {name: {{ .Values.name }}}\n");
    let (found, text, plan) = place.plan();
    compare(&snapshot("kubernetes.toml"), &text);
    assert_eq!(plan.datasets.keys().collect::<Vec<_>>(), ["aegis"]);
    let probe = plan.services["aegis-api"].probe.as_ref().unwrap();
    assert_eq!((probe.url.as_str(), probe.failures), ("http://aegis:80/ready", 3));
    assert!(found.undone.iter().any(|undone| undone.what.contains("aegis-db")), "{:?}", found.undone);
    assert!(found.passed_over.iter().any(|passed| passed.is_missed && passed.why.contains("template")));
}

#[test]
fn a_variable_links_a_workload_to_its_store() {
    let place = Place::new()
        .with("k8s/all.yaml", MANIFESTS)
        .variable("DATABASE_URL", "postgres://aegis@aegis-postgres.aegis.svc:5432/aegis");
    let (_, _, plan) = place.plan();
    assert_eq!(plan.datasets["aegis"].store, "env:DATABASE_URL", "the same server by another of its names");
    assert_eq!(plan.services["aegis-api"].needs, ["aegis"]);
}

#[test]
fn one_address_is_one_dataset_and_one_variable_is_one_address() {
    let place = Place::new()
        .variable("DATABASE_URL", "postgres://u:p@db-1/app")
        .variable("POSTGRES_URL", "postgresql://other@DB-1:5432/app")
        .with(".env", "DATABASE_URL=postgres://u:p@db-2/app\nREPORTS_DSN='postgres://r@db-3/reports'\n");
    let (found, _, plan) = place.plan();
    let stores: Vec<&str> = plan.datasets.values().map(|dataset| dataset.store.as_str()).collect();
    assert_eq!(stores, ["env:DATABASE_URL", "postgres://u@db-2/app", "env:REPORTS_DSN"], "{found:#?}");
}

#[test]
fn libpq_finds_its_server_by_variables() {
    let place =
        Place::new().variable("PGHOST", "db-1").variable("PGUSER", "app").variable("PGPASSWORD", "hunter2");
    let (found, text, plan) = place.plan();
    assert_eq!(plan.datasets["postgres"].store, "postgres://app@db-1");
    assert_eq!(found.datasets[0].seen, ["PGHOST", "PGUSER"].map(|name| Sight::Variable(name.to_owned())));
    assert!(!text.contains("hunter2"));
}

#[test]
fn a_folder_of_data_leaves_out_what_is_a_dataset_or_a_server() {
    let place = Place::new()
        .with("data/app[1].db", DATABASE)
        .with("data/picture.jpg", "jpg")
        .with("data/pg/PG_VERSION", "16")
        .with("data/pg/base/1/1", "x")
        .with("uploads/a.png", "png")
        .with("src/data/model.py", "code")
        .with("only/data/one.db", DATABASE);
    let (found, _, plan) = place.plan();
    let folders: Vec<&str> =
        plan.datasets.values().filter(|d| !d.store.ends_with(".db")).map(|d| d.store.as_str()).collect();
    assert_eq!(folders, ["./data", "./uploads"]);
    let exclude = &plan.datasets["data"].exclude;
    assert!(
        exclude.contains(&"/pg/".to_owned()) && exclude.contains(&"/app\\[1\\].db-wal".to_owned()),
        "{exclude:?}"
    );
    assert!(found.undone.iter().any(|undone| undone.what.contains("data/pg")));
}

#[test]
fn a_database_that_a_variable_names_is_the_file() {
    let place = Place::new()
        .with("var/app.db", DATABASE)
        .variable("DATABASE_URL", "sqlite:///var/app.db")
        .variable("OTHER_URL", "sqlite:////elsewhere/x.db");
    let (found, _, plan) = place.plan();
    assert_eq!(plan.datasets.len(), 1);
    assert_eq!(plan.datasets["app"].names, ["DATABASE_URL"]);
    assert_eq!(found.undone.len(), 1, "{:?}", found.undone);
}

#[test]
fn nothing_is_a_plan_as_well() {
    let (found, text, plan) = Place::new().plan();
    compare(&snapshot("nothing.toml"), &text);
    assert!(found.is_empty() && plan.datasets.is_empty());
}
