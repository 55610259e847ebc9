//! What an error says to the person who reads it: the chain of causes, once, and what to do next.

use std::error::Error;

/// An error that can end with what to check or which command to run next.
pub trait Hint: Error {
    /// One full sentence for the operator, or `None` where nothing useful can be said.
    fn hint(&self) -> Option<String>;
}

/// Renders an error and its causes on one line, outermost first: `open repository: read config: not found`.
///
/// A cause whose text already ends the line is not said twice.
pub fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open repository")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn the_chain_is_on_one_line_and_says_each_cause_once() {
        let error = Outer(std::io::Error::other("no such directory"));
        assert_eq!(report(&error), "open repository: no such directory");
        assert_eq!(report(&std::io::Error::other("alone")), "alone");
    }
}
