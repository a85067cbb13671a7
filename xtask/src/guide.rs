//! `cargo xtask guide`: does what docs/guests.md says, as it is written, in an empty folder.
//!
//! In: the fenced blocks of the page. A block that names a file becomes that file, a `sh` block is run.
//! Out: nothing, or the first command that fails. Two things differ from an author's own machine: the
//! SDK comes from this tree, and the Wasm target has to be there already.

use anyhow::{Context, Result, ensure};
use std::{env, fmt::Write as _, fs, path::Path, process::Command};

const PAGE: &str = "docs/guests.md";
/// Where the page's author gets the SDK from.
const SDK_SOURCE: &str = r#"git = "https://github.com/fuelbox/fuelbox""#;
/// The page's one command that is about the machine.
const TARGET_COMMAND: &str = "rustup target add wasm32-wasip1\n";
/// What the page says that its guest answers.
const ANSWERS: [&str; 2] = ["red", "0.244949"];

pub(crate) fn run() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("xtask has a parent")?;
    let page = fs::read_to_string(root.join(PAGE)).context(PAGE)?;
    for answer in ANSWERS {
        ensure!(page.contains(answer), "{PAGE} does not say '{answer}'");
    }
    let script = script(&page, root)?;
    let binary = Command::new(env!("CARGO"))
        .args(["build", "--release", "--package", "fuelbox"])
        .current_dir(root)
        .status()?;
    ensure!(binary.success(), "fuelbox does not build");
    let folder = env::temp_dir().join(format!("fuelbox-guide-{}", std::process::id()));
    fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
    let mut path = root.join("target/release").into_os_string();
    path.push(":");
    path.push(env::var_os("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-euxo", "pipefail", "-c", &script])
        .current_dir(&folder)
        .env("PATH", path)
        .env("FUELBOX_CACHE", folder.join("cache"))
        .env_remove("CARGO_TARGET_DIR")
        .output()?;
    let (stdout, stderr) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    fs::remove_dir_all(&folder)?;
    ensure!(output.status.success(), "{PAGE} does not work as written:\n{stdout}\n{stderr}");
    for answer in ANSWERS {
        ensure!(stdout.contains(answer), "the guest does not answer '{answer}':\n{stdout}");
    }
    println!("{PAGE} works as written");
    Ok(())
}

/// The page as a script.
fn script(page: &str, root: &Path) -> Result<String> {
    let mut script = String::new();
    let mut blocks = 0;
    for block in page.split("\n```").skip(1).step_by(2) {
        let (head, body) = block.split_once('\n').context("a block has a line")?;
        let body = format!("{body}\n");
        if let Some((_, file)) = head.split_once("file=") {
            let sdk = root.join("guest/sdk");
            let body = body.replace(SDK_SOURCE, &format!("path = {sdk:?}"));
            let folder = Path::new(file).parent().unwrap_or(Path::new(""));
            writeln!(script, "mkdir -p './{}'", folder.display())?;
            writeln!(script, "cat > '{file}' <<'END-OF-BLOCK'\n{body}END-OF-BLOCK")?;
        } else if head == "sh" {
            script += &body.replace(TARGET_COMMAND, "");
        } else {
            continue;
        }
        blocks += 1;
    }
    ensure!(blocks >= 8, "{PAGE}: {blocks} blocks found, expected at least 8");
    Ok(script)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_become_files_and_commands() {
        let block = "\n```sh\necho a\n```\ntext\n```toml file=a/b.toml\nx = 1\n```\n";
        let page = block.repeat(4);
        let script = script(&page, Path::new("/")).expect("blocks");
        let expected =
            "echo a\nmkdir -p './a'\ncat > 'a/b.toml' <<'END-OF-BLOCK'\nx = 1\nEND-OF-BLOCK\n";
        assert_eq!(script, expected.repeat(4));
    }
}
