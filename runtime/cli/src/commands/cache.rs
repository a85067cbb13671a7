//! `fuelbox cache`: what is in the cache, where it is, and how to empty it.

use super::to_stdout;
use crate::{
    args::Global,
    exit::{Exit, Result},
    host,
    units::show_bytes,
};
use std::time::SystemTime;

/// List or clear compiled code and model images.
#[derive(clap::Args, Debug)]
pub(crate) struct CacheArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(clap::Subcommand, Debug)]
enum Action {
    /// List what is in the cache.
    ///
    /// `code` is machine code, by guest module; `image` is a loaded model, by model and input shapes.
    List {
        /// Print a JSON list.
        #[arg(long)]
        json: bool,
    },
    /// Remove everything from the cache. Jobs that are running are not disturbed.
    Clear,
    /// Print the cache's folder.
    Path,
}

#[derive(serde::Serialize)]
struct Entry {
    kind: &'static str,
    group: String,
    key: String,
    disk_bytes: u64,
    used_unix: u64,
}

/// Runs the command.
pub(crate) fn cache(args: CacheArgs, global: Global) -> Result<Exit> {
    let cache = host::cache(global.cache_dir)?;
    match args.action {
        Action::List { json } => {
            let entries = cache.list()?.into_iter().map(|entry| Entry {
                kind: entry.kind,
                group: entry.group,
                key: entry.key,
                disk_bytes: entry.disk_bytes,
                used_unix: entry
                    .used
                    .duration_since(SystemTime::UNIX_EPOCH)
                    .map_or(0, |d| d.as_secs()),
            });
            let entries: Vec<_> = entries.collect();
            to_stdout(|out| {
                if json {
                    serde_json::to_writer(&mut *out, &entries)?;
                    Ok(writeln!(out)?)
                } else {
                    Ok(out.write_all(table(&entries).as_bytes())?)
                }
            })?;
        }
        Action::Clear => {
            let freed = cache.clear()?;
            to_stdout(|out| Ok(writeln!(out, "{} freed", show_bytes(freed))?))?;
        }
        Action::Path => to_stdout(|out| Ok(writeln!(out, "{}", cache.path().display())?))?,
    }
    Ok(Exit::Completed)
}

fn table(entries: &[Entry]) -> String {
    let short = |digest: &str| digest.chars().take(16).collect::<String>();
    let line = |entry: &Entry| {
        let Entry { kind, group, key, disk_bytes, .. } = entry;
        format!(
            "{kind:5}  {:16}  {:16}  {:>10}\n",
            short(group),
            short(key),
            show_bytes(*disk_bytes)
        )
    };
    let total = entries.iter().map(|entry| entry.disk_bytes).sum();
    let mut text = format!("{:5}  {:16}  {:16}  {:>10}\n", "kind", "of", "key", "size");
    text.extend(entries.iter().map(line));
    text + &format!("{} entries, {}\n", entries.len(), show_bytes(total))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_ends_in_the_sum() {
        let entry = |kind, disk_bytes| Entry {
            kind,
            group: "a".repeat(64),
            key: "b".repeat(64),
            disk_bytes,
            used_unix: 0,
        };
        let table = table(&[entry("code", 1 << 20), entry("image", 512)]);
        let lines: Vec<_> = table.lines().collect();
        assert_eq!(lines[1], "code   aaaaaaaaaaaaaaaa  bbbbbbbbbbbbbbbb     1.0 MiB");
        assert_eq!(lines[3], "2 entries, 1.0 MiB");
    }
}
