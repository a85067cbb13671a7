//! What is built before anything is served: programs in release, models as files.

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

/// Where everything is.
pub(crate) struct Ground {
    /// Of the chore, in the target folder.
    pub(crate) folder: PathBuf,
    release: PathBuf,
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
    pub(crate) fn prepare(chore: &str, packages: &[&str], bin: Option<&Path>) -> Result<Self> {
        let root = root()?;
        let target = target_folder(root)?;
        let folder = target.join(chore);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let packages = packages.iter().filter(|package| **package != FUELBOX || bin.is_none());
        for package in ["fuelbox-load", "fuelbox-bench-box"].iter().chain(packages) {
            eprintln!("building {package} ...");
            // One by one: together, they would share features, and be built anew.
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "--release", "--package", package]);
            ensure!(build.current_dir(root).status()?.success(), "{package} does not build");
        }
        let release = target.join("release");
        let fuelbox = match bin {
            Some(bin) => bin.canonicalize().with_context(|| bin.display().to_string())?,
            None => release.join(FUELBOX),
        };
        Ok(Self { folder, release, fuelbox })
    }

    /// See `prepare`.
    pub(crate) fn fuelbox(&self) -> &Path {
        &self.fuelbox
    }

    /// A program that was built.
    pub(crate) fn program(&self, name: &str) -> PathBuf {
        self.release.join(name)
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
