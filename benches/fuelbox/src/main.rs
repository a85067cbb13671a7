//! fuelbox for `cargo xtask compare`: writes the models that are compared, and is a peer.
//!
//! `models FOLDER NAME..` writes each model to a folder of its own, `small-models` the small ones. `peer CACHE MODE CODEGEN` speaks
//! the protocol of `xtask/src/compare/protocol.rs` on stdin and stdout. `calibrate CACHE ROUNDS` measures what fuel takes,
//! `search CACHE SECONDS SEED` looks for work that takes more.

mod calibrate;
mod models;
mod peer;
mod queue;

use anyhow::{Result, bail};
use std::{env, path::Path, time::Duration};

fn main() -> Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["models", folder, names @ ..] => {
            models::write(Path::new(folder), names, |family| (family.full)())
        }
        ["small-models", folder, names @ ..] => {
            models::write(Path::new(folder), names, |family| (family.small)())
        }
        ["peer", cache, mode, codegen] => peer::serve(Path::new(cache), mode, codegen),
        ["calibrate", cache, rounds] => calibrate::run(Path::new(cache), rounds.parse()?),
        ["search", cache, seconds, seed] => {
            let time = Duration::from_secs(seconds.parse()?);
            calibrate::search(Path::new(cache), time, seed.parse()?)
        }
        _ => bail!(
            "expected `models FOLDER NAME..`, `peer CACHE MODE CODEGEN`, `calibrate CACHE ROUNDS` or \
             `search CACHE SECONDS SEED`"
        ),
    }
}
