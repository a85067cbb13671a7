//! What is built before anything is served: programs, and models as files.

use crate::tools::{output, root, target_folder};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// The package, and its program.
pub(crate) const FUELBOX: &str = "fuelbox";

/// How programs are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Built {
    /// For measuring.
    Release,
    /// For seeing whether it works, where the workspace was tested already.
    Dev,
}

/// The load generator, the writer of models, and a host without a server.
const TOOLS: [&str; 3] = ["fuelbox-load", "fuelbox-bench-box", "fuelbox-bench-host"];

/// Where everything is.
pub(crate) struct Ground {
    /// Of the chore, in the target folder.
    pub(crate) folder: PathBuf,
    programs: PathBuf,
    /// The fuelbox that serves.
    fuelbox: PathBuf,
}

/// A model with one input, FP32.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) onnx: PathBuf,
    pub(crate) input: String,
    pub(crate) shape: Vec<u64>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<u64>,
}

impl Ground {
    /// Builds these packages besides the load generator and the models' writer. fuelbox is among them,
    /// or is this file.
    pub(crate) fn prepare(
        chore: &str,
        packages: &[&str],
        bin: Option<&Path>,
        built: Built,
    ) -> Result<Self> {
        let root = root()?;
        let target = target_folder(root)?;
        let folder = target.join(chore);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let packages = packages.iter().filter(|package| **package != FUELBOX || bin.is_none());
        eprintln!("building ...");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet"]);
        let programs = match built {
            // In one go, and the same ones for all chores: wasmtime is built for each set of
            // features, and these have one together.
            Built::Release => {
                build.arg("--release");
                for package in TOOLS.iter().chain(packages) {
                    build.args(["--package", package]);
                }
                target.join("release")
            }
            // What the workspace's tests have built.
            Built::Dev => {
                build.args(["--workspace", "--bins"]);
                target.join("debug")
            }
        };
        ensure!(build.current_dir(root).status()?.success(), "the programs do not build");
        let fuelbox = match bin {
            Some(bin) => bin.canonicalize().with_context(|| bin.display().to_string())?,
            None => programs.join(FUELBOX),
        };
        Ok(Self { folder, programs, fuelbox })
    }

    /// See `prepare`.
    pub(crate) fn fuelbox(&self) -> &Path {
        &self.fuelbox
    }

    /// A program that was built.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.programs.join(name)
    }

    /// Compiled code and model images; kept from run to run.
    pub(crate) fn cache(&self) -> PathBuf {
        self.folder.join("cache")
    }

    /// An empty folder.
    pub(crate) fn empty(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        Ok(folder)
    }

    /// Writes a model of the families that `compare` knows.
    pub(crate) fn model(&self, name: &str) -> Result<Model> {
        let models = self.folder.join("models");
        let mut command = Command::new(self.program("fuelbox-bench-box"));
        output(command.arg("models").arg(&models).arg(name))?;
        let folder = models.join(name);
        let inputs: Vec<Input> = serde_json::from_slice(&fs::read(folder.join("inputs.json"))?)?;
        let [input] = inputs.as_slice() else {
            anyhow::bail!("{name} has {} inputs, the load generator has one", inputs.len())
        };
        ensure!(input.datatype == "FP32", "{name} takes {}, the generator FP32", input.datatype);
        Ok(Model {
            name: name.into(),
            onnx: folder.join("model.onnx"),
            input: input.name.clone(),
            shape: input.shape.clone(),
        })
    }
}
