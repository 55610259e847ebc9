//! Ranges of positions: joined, compared, and taken from one another.

use std::ops::Range;

/// Sorts ranges and joins those that touch; empty ones go.
pub(crate) fn merge(ranges: &mut Vec<Range<u64>>) {
    ranges.retain(|range| !range.is_empty());
    ranges.sort_by_key(|range| (range.start, range.end));
    ranges.dedup_by(|next, before| {
        let touches = next.start <= before.end;
        if touches {
            before.end = before.end.max(next.end);
        }
        touches
    });
}

/// Whether two ranges have a position in common.
pub(crate) fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    one.start.max(other.start) < one.end.min(other.end)
}

/// What is left of a range without others, which are merged.
pub(crate) fn without(range: Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    let (mut left, mut start) = (Vec::new(), range.start);
    for other in others.iter().filter(|other| other.end > range.start && other.start < range.end) {
        left.push(start..other.start.max(start));
        start = start.max(other.end);
    }
    left.push(start..range.end.max(start));
    left.retain(|range| !range.is_empty());
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_and_taken_away() {
        let mut ranges = vec![5..9, 20..30, 9..12, 7..8, 15..15];
        merge(&mut ranges);
        assert_eq!(ranges, [5..12, 20..30]);
        let left = |start, end| without(Range { start, end }, &ranges);
        assert_eq!(left(0, 40), [0..5, 12..20, 30..40]);
        assert!(left(6, 11).is_empty() && left(30, 20).is_empty());
        assert_eq!(left(11, 21), left(12, 20));
        let common = |start, end| overlap(&ranges[0], &Range { start, end });
        assert!(common(11, 13) && common(0, 6) && common(6, 7));
        assert!(!common(12, 20) && !common(0, 5) && !common(7, 7));
    }
}
