//! Notifications: what is sent, to which channel, how often, and whether it arrived.
//!
//! A [`Dispatcher`] is a state machine without I/O: it is told what holds ([`Event`]), deduplicates while it lasts,
//! reminds, says once that it is over, and hands out one message after the other. Its owner persists [`dispatch::State`]
//! before it sends and after, so that a restart neither forgets nor repeats more than the message that was under way;
//! that one carries the same id again. A [`Channel`] sends one message, or says whether it is worth trying again.
//!
//! It deliberately does not know what makes an event: no status, no plan file, no schedule.

pub mod channel;
pub mod dispatch;
pub mod event;
mod nanos;
pub mod signature;
pub mod smtp;
pub mod template;
#[cfg(feature = "testing")]
pub mod testing;
pub mod webhook;

pub use channel::{Channel, Rejected, SendError, message, test};
pub use dispatch::{Dispatcher, Health, Route, Settings};
pub use event::{Event, Kind, Message, Phase};
