//! Servers as child processes, with a load generator in front: what `compare-server` and `soak` share.

mod ground;
mod process;
mod api;
mod fuelbox;
mod load;

pub(crate) use api::is_ok;
pub(crate) use fuelbox::{Account, Folder, Fuelbox};
pub(crate) use ground::{FUELBOX, Ground, Model};
pub(crate) use load::{run, start};
pub(crate) use process::{Process, memory, ports, until_ready};
