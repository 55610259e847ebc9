//! Services are asked whether they answer, by what the plan says.

use crate::world::{SERVE, World};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

#[test]
fn a_service_that_answers_something_else_is_down_and_up_again_when_it_answers() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (address, answers) = (listener.local_addr().unwrap(), Arc::new(AtomicU16::new(200)));
    let status = answers.clone();
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 4096]);
            let status = status.load(Ordering::SeqCst);
            let _ = write!(stream, "HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }
    });
    let probe = "interval = \"200ms\", timeout = \"1s\", failures = 2, successes = 2";
    let service = format!(
        "[services.api]\ntier = \"critical\"\nprobe = {{ url = \"http://{address}/readyz\", {probe} }}\n"
    );
    let world = World::serving(&format!("{SERVE}{service}"));
    let is = |world: &World, up: u8| {
        world
            .get("/metrics")
            .body
            .lines()
            .any(|line| line == format!("lifeboat_service_up{{service=\"api\"}} {up}"))
    };
    world.until("it is up", |world| is(world, 1));
    for other in [503, 302] {
        answers.store(other, Ordering::SeqCst);
        world.until("it is down", |world| is(world, 0));
        let services = world.get("/api/v1/services").json();
        let api =
            services["services"].as_array().unwrap().iter().find(|one| one["name"] == "api").unwrap().clone();
        assert!(
            api["reasons"].as_array().unwrap().iter().any(|one| one["reason"] == "service_down"),
            "{api}"
        );
        answers.store(200, Ordering::SeqCst);
        world.until("it is up again", |world| is(world, 1));
    }
    // The other service of the plan has no probe, and nothing is made up.
    assert!(!world.get("/metrics").body.contains("lifeboat_service_up{service=\"site\"}"));
}
