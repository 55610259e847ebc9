//! The fuzz target of this crate as a property, and documents whose lines were shuffled about: what a person who
//! edits in a hurry leaves behind, which a mutation of bytes hardly ever is.

#[path = "../../../../fuzz/src/replay.rs"]
#[expect(unreachable_pub, reason = "several test programs and the fuzzers share it")]
mod replay;
#[path = "../../../../fuzz/src/runbook.rs"]
#[expect(unreachable_pub, reason = "the fuzzers share it")]
mod targets;

use crate::sound::WHOLE;
use targets::TARGETS;

#[test]
fn real_documents_are_seeds() {
    let small = "# T\n\n- [ ] Told {by=a}\n\n```bash {step=a}\nls\n```\n";
    replay::seed(TARGETS, "runbook", "whole", WHOLE.as_bytes());
    replay::seed(TARGETS, "runbook", "small", small.as_bytes());
}

#[test]
fn every_target_holds_on_its_corpus_and_on_mutations_of_it() {
    replay::run(TARGETS);
}

/// SplitMix64.
struct Random(u64);

impl Random {
    /// Pin a run with `LIFEBOAT_TEST_SEED`.
    #[expect(clippy::print_stderr, reason = "the seed of a run that failed")]
    fn seeded() -> Self {
        let pinned = std::env::var("LIFEBOAT_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = pinned.unwrap_or_else(|| u64::from_le_bytes(lifeboat_base::random::bytes::<8>()));
        eprintln!("LIFEBOAT_TEST_SEED={seed}");
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((z ^ (z >> 31)) % bound as u64).unwrap()
    }
}

/// What is put where something else was.
const EDGES: &[&str] = &[
    "",
    "none",
    "{",
    "}",
    "\"",
    "'",
    "${",
    ":'",
    "```",
    "~~~",
    "---",
    "- [ ] ",
    "# ",
    "> ",
    "<!--",
    "<div>",
    "step=",
    "needs=none",
    "undo=none",
    "pass=host",
    "a.b",
    "=",
    ",",
    "0s",
    "18446744073709551615ms",
    "4294967295",
    "é",
    "\u{0}",
    "\u{feff}",
    "\r\n",
    "$(",
    "\\",
];

fn edited(lines: &mut Vec<String>, random: &mut Random) {
    let at = random.below(lines.len());
    let other = random.below(lines.len());
    match random.below(5) {
        0 => _ = lines.remove(at),
        1 => lines.swap(at, other),
        2 => lines.insert(at, lines[other].clone()),
        3 => {
            let words: Vec<&str> = lines[at].split(' ').collect();
            let (word, edge) = (random.below(words.len()), EDGES[random.below(EDGES.len())]);
            let words = words.iter().enumerate().map(|(n, own)| if n == word { edge } else { own });
            lines[at] = words.collect::<Vec<_>>().join(" ");
        }
        _ => lines[at] += EDGES[random.below(EDGES.len())],
    }
}

#[test]
fn whatever_somebody_leaves_behind_is_read_or_refused() {
    const CASES: usize = 2_000;
    let mut random = Random::seeded();
    let mut sound = 0;
    for _ in 0..CASES {
        let mut lines: Vec<String> = WHOLE.lines().map(str::to_owned).collect();
        for _ in 0..1 + random.below(3) {
            edited(&mut lines, &mut random);
        }
        sound += usize::from(targets::runbook(lines.join("\n").as_bytes()));
    }
    assert!(sound > CASES / 20 && sound < CASES, "{sound} of {CASES} were sound");
}
