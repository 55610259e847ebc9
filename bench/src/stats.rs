//! Medians and ratios of few samples.

/// The median; of an even number, the mean of the middle two. `None` of nothing.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        length if length % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// The median of pairwise ratios, with the smallest and the largest.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Ratio {
    /// The median.
    pub(crate) median: f64,
    /// The smallest.
    pub(crate) least: f64,
    /// The largest.
    pub(crate) most: f64,
}

/// What `upper` is of `lower`, pair by pair, so that a slow minute of the machine weighs on both.
pub(crate) fn ratio(upper: &[f64], lower: &[f64]) -> Option<Ratio> {
    let each: Vec<f64> =
        upper.iter().zip(lower).filter(|(_, lower)| **lower > 0.0).map(|(u, l)| u / l).collect();
    Some(Ratio {
        median: median(&each)?,
        least: each.iter().copied().min_by(f64::total_cmp)?,
        most: each.iter().copied().max_by(f64::total_cmp)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
    }

    #[test]
    fn a_ratio_is_taken_pair_by_pair() {
        let found = ratio(&[1.0, 20.0, 3.0], &[2.0, 20.0, 2.0]).unwrap();
        assert_eq!(found, Ratio { median: 1.0, least: 0.5, most: 1.5 });
        assert_eq!(ratio(&[1.0], &[0.0]), None);
    }
}
