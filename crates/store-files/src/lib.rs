//! The files driver.
