//! A server by itself, and what is said where there is none.
