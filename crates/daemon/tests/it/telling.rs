//! People are told, over real HTTP, and told that it is over; a sign of life comes by itself; nothing is told twice
//! across a restart.

use crate::web::Sink;
use crate::world::{SERVE, World};

#[test]
fn what_breaks_is_told_once_with_its_words() {
    let sink = Sink::start();
    let notify = format!(
        "{SERVE}[notify.ops]\nwebhook = \"http://{}/hook\"\nsecret = \"env:TOKEN\"\nheartbeat = \"1h\"\n",
        sink.address
    );
    let world = World::serving(&notify);
    let heartbeat = sink.until(|_, body| body["kind"] == "heartbeat");
    assert_eq!((heartbeat["system"].as_str(), heartbeat["phase"].as_str()), (Some("test"), Some("once")));
    world.take_away("tree");
    let told = |kind: &'static str, about: &'static str| {
        move |body: &serde_json::Value| body["kind"] == kind && body["about"] == about
    };
    let (is_down, has_failed) = (told("down", "tree"), told("job_failed", "snapshot tree"));
    let mut seen = Vec::new();
    while !(seen.iter().any(is_down) && seen.iter().any(has_failed)) {
        let body = sink.until(|head, _| {
            assert!(head.contains("lifeboat-signature: t=") && head.contains("idempotency-key: "), "{head}");
            true
        });
        assert_eq!(body["phase"], "began", "{body}");
        seen.push(body);
    }
    let down: Vec<_> = seen.iter().filter(|body| is_down(body)).collect();
    assert_eq!((down.len(), down[0]["what"].as_str()), (1, Some("the store does not answer")));
    world.until("the channel is seen", |world| {
        let line = "lifeboat_channel_state{channel=\"ops\",state=\"ok\"} 1";
        world.get("/metrics").body.lines().any(|one| one == line)
    });
    let kept = world.get("/api/v1/status").body;
    assert!(!kept.contains(crate::world::TOKEN), "a secret is shown");
}
