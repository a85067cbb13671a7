//! A load generator for servers of the Open Inference Protocol v2.
//!
//! [`Plan`] (what to send, how fast, for how long) -> requests over REST or gRPC -> [`Report`]. It runs
//! on one thread: it shares a small machine with the server, and what it takes is missing there. It knows
//! nothing of fuelbox but how a response names its bill.

mod plan;
#[cfg(feature = "client")]
mod protocol;
#[cfg(feature = "client")]
mod message;
#[cfg(feature = "client")]
mod turns;
#[cfg(feature = "client")]
mod connection;
#[cfg(feature = "client")]
mod answer;
#[cfg(feature = "client")]
mod leave;
#[cfg(feature = "client")]
mod tallies;
#[cfg(feature = "client")]
mod run;
mod report;

pub use plan::{Pace, Plan, Protocol, Traffic};
pub use report::{Latency, Report, Tally};
#[cfg(feature = "client")]
pub use run::run;
