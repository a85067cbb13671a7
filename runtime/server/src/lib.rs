//! The server: existing inference clients talk to it, publishers upload to it.
//!
//! ```text
//! socket -> serve (limits, TLS) -> problem (who is it) -> rest, grpc, api -> infer, models, publishing
//!        -> fuelbox-jobs -> answer with its bill, or a refusal with its code
//! ```
//!
//! Only here do status codes exist. Money, keys and visibility are decided by `fuelbox-jobs`; this
//! crate says who asks, and shows what came of it.

mod config;
mod refusal;
mod answer_budget;
mod seeing;
mod rates;
mod access;
mod stats;
mod models;
mod uploads;
mod turns;
mod publishing;
mod app;
mod options;
mod infer;
mod bill;
mod describe;
mod serve;
mod problem;
mod rest;
mod grpc;
mod webhooks;
mod api;
mod run;

pub use config::{Config, ConfigError, Limits, TlsFiles};
pub use run::{Addresses, ServeError, Server, Stopper};
pub use seeing::{LogFormat, Logs, LogsError, OtlpError, logs, logs_to};
pub use serve::TlsError;
