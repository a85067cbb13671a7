//! Where the tools are, and which ones they are.

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What guests are built for.
pub(super) const TARGET: &str = "wasm32-wasip1";

/// The tools and the folders that they work in.
pub(super) struct Toolchain {
    pub(super) cargo: OsString,
    pub(super) workspace: PathBuf,
    pub(super) target_folder: PathBuf,
    pub(super) cargo_home: PathBuf,
    pub(super) sysroot: PathBuf,
    /// `rustc --version`.
    pub(super) rustc: String,
}

impl Toolchain {
    /// Finds them, and makes sure that they can build for Wasm.
    pub(super) fn find() -> Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        // Cargo is asked, as settings can move the target folder.
        let mut metadata = Command::new(&cargo);
        metadata.args(["metadata", "--format-version=1", "--no-deps", "--manifest-path"]);
        metadata.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
        let metadata: serde_json::Value = serde_json::from_str(&output(&mut metadata)?)?;
        let folder = |key: &str| {
            let folder = metadata[key].as_str();
            folder.map(PathBuf::from).with_context(|| format!("cargo metadata has no {key}"))
        };
        let toolchain = Self {
            workspace: folder("workspace_root")?,
            target_folder: folder("target_directory")?,
            cargo_home: cargo_home()?,
            sysroot: output(Command::new(&rustc).args(["--print", "sysroot"]))?.into(),
            rustc: output(Command::new(&rustc).arg("--version"))?,
            cargo,
        };
        ensure!(
            toolchain.standard_library().is_dir(),
            "{} has no {TARGET} target: run `rustup target add {TARGET}`",
            toolchain.rustc
        );
        Ok(toolchain)
    }

    /// Digest of the standard library for Wasm. The same version of Rust comes with different ones:
    /// distributions build their own, and their bytes end up in guests.
    pub(super) fn standard_library_sha256(&self) -> Result<String> {
        let folder = self.standard_library();
        let mut files = Vec::new();
        for folder in [folder.clone(), folder.join("self-contained")] {
            for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
                let path = entry?.path();
                if path.is_file() {
                    files.push(path);
                }
            }
        }
        files.sort();
        let mut digest = Sha256::new();
        for path in files {
            let name = path.strip_prefix(&folder)?.to_string_lossy();
            digest.update(format!("{name}\0{}\n", sha256(&fs::read(&path)?)));
        }
        Ok(hex(&digest.finalize()))
    }

    fn standard_library(&self) -> PathBuf {
        self.sysroot.join("lib/rustlib").join(TARGET).join("lib")
    }
}

/// SHA-256 in hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Cargo's rule: the variable, or `.cargo` at home.
fn cargo_home() -> Result<PathBuf> {
    if let Some(folder) = env::var_os("CARGO_HOME") {
        return Ok(folder.into());
    }
    let home = env::home_dir().context("no home folder found: set CARGO_HOME")?;
    Ok(home.join(".cargo"))
}

fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().into())
}
