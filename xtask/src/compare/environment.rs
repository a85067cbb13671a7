//! The peers' surroundings, all of them under `target/compare`: made once, used again.

use super::{peer::Peer, results::*};
use crate::tools::{need, output, root, target_folder, works};
use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const PYTHON_PEER: &str = include_str!("peers/onnxruntime.py");
const NODE_PEER: &str = include_str!("peers/onnxruntime-web.mjs");

/// Where everything is.
pub(super) struct Environment {
    pub(super) root: PathBuf,
    /// `target/compare`.
    pub(super) folder: PathBuf,
    release: PathBuf,
    python: PathBuf,
}

/// A model as a folder of files.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ModelFiles {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) logits: bool,
}

/// How fuelbox' peer makes code, and which host kernels it takes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) codegen: &'static str,
    /// `FUELBOX_KERNELS`.
    pub(super) kernels: Option<&'static str>,
}

impl Environment {
    /// Builds what is to be built and installs what is to be installed.
    pub(super) fn prepare() -> Result<Self> {
        let root = root()?;
        let target = target_folder(root)?;
        let folder = target.join("compare");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        let python = python(&folder)?;
        node(&folder)?;
        for package in ["fuelbox-bench-tract", "fuelbox-bench-box"] {
            eprintln!("building {package} ...");
            // One by one: together, they would share features, and be built anew.
            let mut build = Command::new(env!("CARGO"));
            build.args(["build", "--quiet", "--release", "--package", package]);
            ensure!(build.current_dir(root).status()?.success(), "{package} does not build");
        }
        Ok(Self { root: root.into(), folder, release: target.join("release"), python })
    }

    /// Writes the models of these names, or all of them.
    pub(super) fn models(&self, names: &[String], small: bool) -> Result<Vec<ModelFiles>> {
        let mut command = Command::new(self.release.join("fuelbox-bench-box"));
        command
            .arg(if small { "small-models" } else { "models" })
            .arg(self.models_folder())
            .args(names);
        let lines = output(&mut command)?;
        lines.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The folder that `load` is told.
    pub(super) fn model_folder(&self, model: &ModelFiles) -> PathBuf {
        self.models_folder().join(&model.name)
    }

    fn models_folder(&self) -> PathBuf {
        self.folder.join("models")
    }

    /// The peers that are timed, in the order of [`PEERS`].
    pub(super) fn peers(&self) -> Result<Vec<Peer>> {
        let start = |name| {
            let mut command = match name {
                BOX => self.fuelbox("fresh", SPEED),
                WARM => self.fuelbox("warm", SPEED),
                UNMETERED => self.fuelbox("fresh", Variant { codegen: "unmetered", ..SPEED }),
                TRACT => Command::new(self.release.join("fuelbox-bench-tract")),
                ORT => {
                    let mut command = Command::new(&self.python);
                    command.arg(self.folder.join("peer.py"));
                    command
                }
                WEB => {
                    let mut command = Command::new("node");
                    command.arg(self.folder.join("node/peer.mjs"));
                    command
                }
                other => bail!("no peer is called '{other}'"),
            };
            Peer::start(name, &mut command)
        };
        PEERS.into_iter().map(start).collect()
    }

    /// fuelbox in one variant.
    pub(super) fn variant(&self, variant: Variant) -> Result<Peer> {
        Peer::start(variant.name, &mut self.fuelbox("fresh", variant))
    }

    fn fuelbox(&self, mode: &str, variant: Variant) -> Command {
        let mut command = Command::new(self.release.join("fuelbox-bench-box"));
        command.arg("peer").arg(self.cache(variant.codegen)).args([mode, variant.codegen]);
        match variant.kernels {
            Some(kernels) => command.env("FUELBOX_KERNELS", kernels),
            None => command.env_remove("FUELBOX_KERNELS"),
        };
        command
    }

    /// Codegens have caches of their own, so that each loads models by itself.
    fn cache(&self, codegen: &str) -> PathBuf {
        self.folder.join(format!("cache-{codegen}"))
    }

    /// Removes all loaded models from a cache; compiled guests stay.
    pub(super) fn forget_models(&self, variant: Variant) -> Result<()> {
        self.forget(variant, "image")
    }

    /// Removes all compiled guests from a cache.
    pub(super) fn forget_code(&self, variant: Variant) -> Result<()> {
        self.forget(variant, "code")
    }

    fn forget(&self, variant: Variant, kind: &str) -> Result<()> {
        // `KIND/GROUP/KEY` below the root: docs/formats/cache.md.
        let Ok(groups) = fs::read_dir(self.cache(variant.codegen).join(kind)) else {
            return Ok(()); // none yet
        };
        for group in groups {
            let path = group?.path();
            fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
        }
        Ok(())
    }
}

/// A virtual environment with onnxruntime.
fn python(folder: &Path) -> Result<PathBuf> {
    need("python3", "Python 3.10 or later with its venv module (Debian: python3 python3-venv)")?;
    fs::write(folder.join("peer.py"), PYTHON_PEER)?;
    let venv = folder.join("venv");
    let python = venv.join("bin/python");
    if works(Command::new(&python).args(["-c", "import onnxruntime, numpy"])) {
        return Ok(python);
    }
    eprintln!("installing onnxruntime ...");
    let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&venv).status()?;
    ensure!(
        made.success(),
        "python3 -m venv failed: install its venv module (Debian: python3-venv)"
    );
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(["onnxruntime", "numpy"]);
    ensure!(pip.status()?.success(), "pip cannot install onnxruntime: is there a package index?");
    Ok(python)
}

/// A folder with onnxruntime-web.
fn node(folder: &Path) -> Result<()> {
    need("node", "Node.js 20 or later")?;
    let folder = folder.join("node");
    fs::create_dir_all(&folder)?;
    fs::write(folder.join("peer.mjs"), NODE_PEER)?;
    if folder.join("node_modules/onnxruntime-web/package.json").is_file() {
        return Ok(());
    }
    need("npm", "npm, which comes with Node.js")?;
    eprintln!("installing onnxruntime-web ...");
    fs::write(folder.join("package.json"), r#"{"private": true}"#)?;
    let mut npm = Command::new("npm");
    npm.args(["install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts"]);
    let status = npm.arg("onnxruntime-web").current_dir(&folder).stdout(Stdio::null()).status()?;
    ensure!(status.success(), "npm cannot install onnxruntime-web: is there a package registry?");
    Ok(())
}
