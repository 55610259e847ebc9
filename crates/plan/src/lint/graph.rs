//! Cycles in a graph, in time that is linear in its edges and without recursion: a plan may be deep.

#[derive(Clone, Copy, PartialEq, Eq)]
enum Colour {
    New,
    Open,
    Done,
}

/// Cycles, each in the order of its edges; no node is an end of two of them.
pub(super) fn cycles(edges: &[Vec<usize>]) -> Vec<Vec<usize>> {
    let mut colours = vec![Colour::New; edges.len()];
    let mut is_reported = vec![false; edges.len()];
    let mut found = Vec::new();
    for start in 0..edges.len() {
        if colours[start] == Colour::New {
            walk(start, edges, &mut colours, &mut is_reported, &mut found);
        }
    }
    found
}

fn walk(
    start: usize,
    edges: &[Vec<usize>],
    colours: &mut [Colour],
    is_reported: &mut [bool],
    found: &mut Vec<Vec<usize>>,
) {
    // The path to here, each node with the number of its edges that were followed.
    let mut path = vec![(start, 0)];
    colours[start] = Colour::Open;
    while let Some((node, followed)) = path.last_mut() {
        let (node, Some(next)) = (*node, edges[*node].get(*followed).copied()) else {
            colours[*node] = Colour::Done;
            path.pop();
            continue;
        };
        *followed += 1;
        match colours[next] {
            Colour::New => {
                colours[next] = Colour::Open;
                path.push((next, 0));
            }
            Colour::Open if !is_reported[node] && !is_reported[next] => {
                let from = path.iter().position(|(on, _)| *on == next).unwrap_or_default();
                let cycle: Vec<usize> = path[from..].iter().map(|(on, _)| *on).collect();
                cycle.iter().for_each(|on| is_reported[*on] = true);
                found.push(cycle);
            }
            Colour::Open | Colour::Done => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cycles_are_found_once() {
        assert_eq!(cycles(&[vec![1], vec![2], vec![]]), Vec::<Vec<usize>>::new());
        assert_eq!(cycles(&[vec![0]]), [[0]]);
        assert_eq!(cycles(&[vec![1], vec![2], vec![1], vec![0]]), [[1, 2]]);
        assert_eq!(cycles(&[vec![1, 2], vec![0], vec![3], vec![2]]), [[0, 1], [2, 3]]);
    }

    #[test]
    fn a_deep_chain_is_no_problem() {
        let deep: Vec<Vec<usize>> = (0..200_000).map(|n| vec![(n + 1) % 200_000]).collect();
        assert_eq!(cycles(&deep).len(), 1);
    }
}
