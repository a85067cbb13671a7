//! How long a server takes from its start to its first "ready", on a folder with many packages.

use crate::{
    serving::{Folder, Ground},
    statistics::Summary,
};
use anyhow::{Context, Result};
use serde::Serialize;

/// Starts that count.
const STARTS: u32 = 5;

/// The times.
#[derive(Debug, Serialize)]
pub(super) struct Startup {
    pub(super) packages: u32,
    pub(super) ready_s: Summary,
}

/// All packages have the same model, under names of their own. The compiled guest is in the cache, as it
/// is after the first start of all.
pub(super) fn measure(ground: &Ground, packages: u32) -> Result<Startup> {
    let model = ground.model(super::MODEL)?;
    let folder = Folder::new(ground, "data-startup", &[])?;
    for number in 0..packages {
        folder.publish(&model, &format!("{}-{number}", model.name))?;
    }
    let mut ready_s = Vec::new();
    for _ in 0..STARTS {
        let server = folder.serve()?;
        ready_s.push(server.ready_s);
        server.stop()?;
    }
    Ok(Startup { packages, ready_s: Summary::of(&ready_s).context("a start")? })
}
