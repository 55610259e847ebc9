//! How fast a log is read: `throughput SEGMENT…` reads the segments of one timeline, one behind the other, a few
//! times over, and prints the best. Give it segments that fit into memory twice.

#![expect(clippy::print_stdout, reason = "printing is what it is for")]

use lifeboat_postgres_wal::{Layout, SegmentName, SegmentSize, Summary, TimelineHistory, WalReader};
use std::error::Error;
use std::path::PathBuf;
use std::time::Instant;

/// How many bytes are given at once: what a network or a file delivers.
const PIECE_BYTES: usize = 128 << 10;
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let paths: Vec<PathBuf> = std::env::args_os().skip(1).map(PathBuf::from).collect();
    let segments = paths.iter().map(std::fs::read).collect::<Result<Vec<_>, _>>()?;
    let (Some(path), Some(segment)) = (paths.first(), segments.first()) else {
        return Err("give the paths of segments".into());
    };
    let size = SegmentSize::new(segment.len() as u64).ok_or("a segment has a size that none has")?;
    let name = path.file_name().and_then(|name| name.to_str()).ok_or("a segment has no name")?;
    let name = SegmentName::parse(name, size)?;
    for whole in [false, true] {
        let mut best = f64::MAX;
        let mut summary = Summary::default();
        let mut bytes = 0;
        for _ in 0..ROUNDS {
            let began = Instant::now();
            (summary, bytes) = read(&segments, name, size, whole);
            best = best.min(began.elapsed().as_secs_f64());
        }
        println!(
            "{}: {} records, {} commits, {bytes} bytes, {:.0} MB/s, {:.1} M records/s",
            if whole { "records and what they mean" } else { "records alone" },
            summary.records,
            summary.commits,
            bytes as f64 / best / 1e6,
            summary.records as f64 / best / 1e6,
        );
    }
    Ok(())
}

fn read(segments: &[Vec<u8>], first: SegmentName, size: SegmentSize, meanings: bool) -> (Summary, u64) {
    let layout = Layout::new(TimelineHistory::first(first.timeline), size);
    let mut reader = WalReader::new(first.start, layout);
    let mut summary = Summary::default();
    for piece in segments.iter().flat_map(|segment| segment.chunks(PIECE_BYTES)) {
        let fed = reader.feed(piece, |record| {
            if meanings {
                let _ = summary.count(record);
            } else {
                summary.records += 1;
            }
        });
        if fed.is_err() {
            break;
        }
    }
    let end = reader.finish();
    (summary, end.at.since(first.start))
}
