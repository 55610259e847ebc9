//! What a stranger may do to the listener: little.

use crate::web::{PATIENCE, exchange, request};
use crate::world::{SERVE, World, plan};
use std::io::{Read, Write};
use std::net::TcpStream;

#[test]
fn a_head_is_bounded_and_a_body_is_not_read() {
    let world = World::listening(&plan(SERVE));
    let long = format!(
        "GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\nConnection: close\r\n\r\n",
        "x".repeat(64 << 10)
    );
    assert_eq!(exchange(world.address, long.as_bytes()).status, 431);
    let many = (0..200).map(|n| format!("X-{n}: 1\r\n")).collect::<String>();
    let many = format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}Connection: close\r\n\r\n");
    assert_eq!(exchange(world.address, many.as_bytes()).status, 431);
    let body = "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(world.address, body.as_bytes()).status, 200);
    assert_eq!(request(world.address, "GET", "/healthz", None).status, 200);
}

#[test]
fn whoever_says_nothing_is_let_go_and_keeps_nobody_out() {
    let world = World::listening(&plan(SERVE));
    let mut silent: Vec<TcpStream> = (0..64).map(|_| TcpStream::connect(world.address).unwrap()).collect();
    for stream in &mut silent {
        stream.write_all(b"GET /heal").unwrap();
    }
    // All places are taken until the first of them is let go.
    assert_eq!(request(world.address, "GET", "/healthz", None).status, 200);
    silent[0].set_read_timeout(Some(PATIENCE)).unwrap();
    let mut said = Vec::new();
    let _ = silent[0].read_to_end(&mut said);
    assert!(said.is_empty() || said.starts_with(b"HTTP/1.1 408"), "{said:?}");
}
