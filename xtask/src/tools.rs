//! Programs that chores start, and where this tree's own are.

use anyhow::{Context, Result, ensure};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The top of this tree.
pub(crate) fn root() -> Result<&'static Path> {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")
}

/// Cargo is asked, as settings can move it.
pub(crate) fn target_folder(root: &Path) -> Result<PathBuf> {
    let mut metadata = Command::new(env!("CARGO"));
    metadata.args(["metadata", "--format-version=1", "--no-deps"]).current_dir(root);
    let metadata: serde_json::Value = serde_json::from_str(&output(&mut metadata)?)?;
    let folder = metadata["target_directory"].as_str();
    folder.map(PathBuf::from).context("cargo metadata has no target_directory")
}

/// Says what to install when a program is missing.
pub(crate) fn need(program: &str, install: &str) -> Result<()> {
    ensure!(
        works(Command::new(program).arg("--version")),
        "{program} is missing: install {install}"
    );
    Ok(())
}

/// Whether a command ends well.
pub(crate) fn works(command: &mut Command) -> bool {
    let command = command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What a program prints; the first of its complaints where it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("{:?}", command.get_program()))?;
    let words = String::from_utf8_lossy(&output.stderr);
    let first = words.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    ensure!(output.status.success(), "{}", first.trim_start_matches("Error: "));
    Ok(String::from_utf8(output.stdout)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_named_with_what_to_install() {
        let error = need("no-such-program", "Something 1.0").expect_err("missing").to_string();
        assert_eq!(error, "no-such-program is missing: install Something 1.0");
        assert!(need("cargo", "Rust").is_ok());
    }

    #[test]
    fn a_program_that_fails_is_quoted() {
        let script = "echo out; echo; echo 'Error: no such model' >&2; echo more >&2; exit 1";
        let error = output(Command::new("sh").args(["-c", script])).expect_err("fails");
        assert_eq!(error.to_string(), "no such model");
        assert_eq!(output(Command::new("echo").arg("out")).expect("works"), "out\n");
    }
}
