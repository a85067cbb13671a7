//! `fuelbox log`: checkpoints and proofs of the log of receipts, and whether they hold.

use super::{print, to_file_or_stdout};
use crate::{
    args::Global,
    data,
    exit::{Exit, Failure, Result},
    output::{columns::facts, text::escaped},
    proof,
    units::grouped,
};
use fuelbox_engine::Digest;
use fuelbox_jobs::{HostFault, JobId, Look, PAGE_ROWS_MAX};
use fuelbox_receipt::{
    KeyRing,
    log::{
        self as receipts, Checkpoint, ConsistencyProof, Folder, HASH_BYTES, InclusionProof,
        TILE_WIDTH, TileUpdate, Tiles, Tree, prove_consistency, prove_inclusion, tile_path,
        verify_consistency,
    },
};
use serde::Serialize;
use std::path::{Path, PathBuf};

const EXAMPLES: &str = "\
Examples:
  fuelbox log checkpoint -o monday.checkpoint
  fuelbox log prove JOB -o job.proof
  fuelbox log check --checkpoint monday.checkpoint
  fuelbox log export /srv/www/log
";

/// Sign checkpoints of the log of receipts, make proofs, check them, and export the log.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct LogArgs {
    #[command(subcommand)]
    command: LogCommand,
}

#[derive(clap::Subcommand, Debug)]
enum LogCommand {
    /// Print the log's size and root as they are now, signed.
    Checkpoint {
        /// Write it to this file.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Print a proof: that a job's receipt is in the log, or that the log goes on from a checkpoint.
    Prove {
        /// The job.
        #[arg(required_unless_present = "from", conflicts_with = "from")]
        job: Option<JobId>,
        /// The earlier checkpoint.
        #[arg(long, value_name = "CHECKPOINT")]
        from: Option<PathBuf>,
        /// Write it to this file.
        #[arg(long, short, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check the log; exit code 8 when it does not hold.
    ///
    /// Without options: the data folder's, every hash computed again from the receipts, and every
    /// signature. With --folder, an exported one. With --proof, that proof alone.
    Check(CheckArgs),
    /// Write the log to a folder that any web server can serve. Again, and only what is new is written.
    Export {
        /// The folder.
        folder: PathBuf,
        /// Print one JSON object.
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args, Debug)]
struct CheckArgs {
    /// An earlier checkpoint that the log must go on from.
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,

    /// A proof to check; one of consistency needs --checkpoint, one of inclusion --receipt.
    #[arg(long, value_name = "FILE", conflicts_with = "folder")]
    proof: Option<PathBuf>,

    /// The receipt that is said to be in the log.
    #[arg(long, value_name = "FILE", requires = "proof")]
    receipt: Option<PathBuf>,

    /// A folder that `log export` wrote.
    #[arg(long, value_name = "DIR")]
    folder: Option<PathBuf>,

    /// Public keys that are trusted, as PEM; the data folder's when not given. Repeatable.
    #[arg(long, value_name = "FILE.pem")]
    keys: Vec<PathBuf>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// A log that holds.
#[derive(Serialize)]
struct Json {
    origin: String,
    size: u64,
    root: Digest,
    /// What was found out.
    checked: String,
}

/// Runs the command.
pub(crate) fn log(args: LogArgs, global: &Global) -> Result<Exit> {
    match args.command {
        LogCommand::Checkpoint { output } => {
            let checkpoint = data::open_books(global)?.checkpoint()?;
            to_file_or_stdout(output.as_deref(), checkpoint.as_bytes())?;
        }
        LogCommand::Prove { job, from, output } => {
            let proof = match (job, from) {
                (Some(job), _) => prove(&job, global)?,
                (None, Some(from)) => prove_from(&from, global)?,
                (None, None) => return Err(Failure::message(Exit::Usage, "JOB or --from")),
            };
            to_file_or_stdout(output.as_deref(), proof.as_bytes())?;
        }
        LogCommand::Check(args) => check(&args, global)?,
        LogCommand::Export { folder, json } => export(&folder, json, global)?,
    }
    Ok(Exit::Completed)
}

fn prove(job: &JobId, global: &Global) -> Result<String> {
    let host = data::open_books(global)?;
    let checkpoint = host.checkpoint()?;
    let size = Checkpoint::open(&checkpoint, &host.key_ring(), &host.log_origin())?.size;
    let found = host.read(|records| -> Result<_, HostFault> {
        let Some(logged) = records.receipt(job)? else {
            return Ok(None);
        };
        Ok(Some((logged.index, prove_inclusion(&records.tiles(), size, logged.index))))
    })??;
    let (index, hashes) = found.ok_or_else(|| proof::no_receipt(job))?;
    Ok(InclusionProof { index, hashes: hashes?, checkpoint }.to_text())
}

fn prove_from(from: &Path, global: &Global) -> Result<String> {
    let host = data::open_books(global)?;
    let checkpoint = host.checkpoint()?;
    let (keys, origin) = (host.key_ring(), host.log_origin());
    let now = Checkpoint::open(&checkpoint, &keys, &origin)?;
    let named = |failure: Failure| failure.of(format!("{}", from.display()));
    let old = Checkpoint::open(&proof::read_note(from)?, &keys, &origin)
        .map_err(|error| named(error.into()))?;
    let hashes = host.read(|records| prove_consistency(&records.tiles(), old.size, now.size))??;
    // A proof that nobody would take is worse than none.
    verify_consistency(old.size, &old.root, now.size, &now.root, &hashes)?;
    Ok(ConsistencyProof { old: old.size, hashes, checkpoint }.to_text())
}

fn check(args: &CheckArgs, global: &Global) -> Result<()> {
    let keys = data::keys(global, &args.keys)?;
    let earlier = match &args.checkpoint {
        Some(path) => Some(proof::read_checkpoint(path, &keys)?),
        None => None,
    };
    let (Checkpoint { origin, size, root }, mut checked) = match (&args.proof, &args.folder) {
        (Some(path), _) => check_proof(path, args, earlier.as_ref(), &keys)?,
        (None, Some(folder)) => check_folder(folder, earlier.as_ref(), &keys)?,
        (None, None) => check_data(global, earlier.as_ref(), &keys)?,
    };
    if let (Some(earlier), None) = (&earlier, &args.proof) {
        checked += &format!("; goes on from the checkpoint of {}", grouped(earlier.size));
    }
    let value = Json { origin, size, root, checked };
    print(args.json, &value, || {
        facts(&[
            ("log", escaped(&value.origin)),
            ("size", format!("{} receipts", grouped(value.size))),
            ("root", value.root.to_string()),
            ("holds", value.checked.clone()),
        ])
    })
}

/// First line of a proof of consistency: what tells it from one of inclusion.
const CONSISTENCY: &str = "fuelbox.dev/log-consistency@";

fn check_proof(
    path: &Path,
    args: &CheckArgs,
    earlier: Option<&Checkpoint>,
    keys: &KeyRing,
) -> Result<(Checkpoint, String)> {
    let named = |failure: Failure| failure.of(format!("{}", path.display()));
    let needs = |option: &str| Failure::message(Exit::Usage, format!("this proof needs {option}"));
    let text = proof::read_note(path)?;
    if text.starts_with(CONSISTENCY) {
        let proof = ConsistencyProof::parse(&text).map_err(|error| named(error.into()))?;
        let earlier = earlier.ok_or_else(|| needs("--checkpoint"))?;
        let later = proof.verify(earlier, keys).map_err(|error| named(error.into()))?;
        let (old, size) = (grouped(earlier.size), grouped(later.size));
        return Ok((
            later,
            format!("the first {old} of {size} receipts are those of the checkpoint"),
        ));
    }
    let proof = InclusionProof::parse(&text).map_err(|error| named(error.into()))?;
    let receipt = args.receipt.as_deref().ok_or_else(|| needs("--receipt"))?;
    let envelope = proof::read_envelope(receipt)?;
    let own = Checkpoint::open_any(&proof.checkpoint, keys).map_err(|error| named(error.into()))?;
    let held = proof.verify(&envelope.digest(), keys, &own.origin);
    let held = held.map_err(|error| named(error.into()))?;
    if let Some(earlier) = earlier
        && *earlier != held
    {
        let text = format!(
            "the proof leads to {} entries with root {}, the checkpoint has {} with root {}",
            held.size, held.root, earlier.size, earlier.root
        );
        return Err(named(Failure::message(Exit::Proof, text)));
    }
    let text = format!("the receipt is entry {} of {}", proof.index, grouped(held.size));
    Ok((held, text))
}

fn check_folder(
    path: &Path,
    earlier: Option<&Checkpoint>,
    keys: &KeyRing,
) -> Result<(Checkpoint, String)> {
    let found = receipts::check(path, keys)?;
    if let Some(earlier) = earlier {
        if earlier.origin != found.origin {
            let (found, allowed) = (escaped(&found.origin), escaped(&earlier.origin));
            let text = format!("log '{found}', the checkpoint is of log '{allowed}'");
            return Err(Failure::message(Exit::Proof, text));
        }
        let hashes = prove_consistency(&Folder::new(path), earlier.size, found.size)?;
        verify_consistency(earlier.size, &earlier.root, found.size, &found.root, &hashes)?;
    }
    Ok((found, "every hash, from the entries up to the signed root".into()))
}

/// Computes the log of a data folder again from its receipts.
fn check_data(
    global: &Global,
    earlier: Option<&Checkpoint>,
    keys: &KeyRing,
) -> Result<(Checkpoint, String)> {
    let (folder, look) = data::look(global)?;
    let known = folder.public_keys()?;
    let origin = known.map(|known| known.origin).unwrap_or_default();
    if let Some(earlier) = earlier.filter(|earlier| earlier.origin != origin) {
        let text = format!("this is log '{origin}', the checkpoint is of log '{}'", earlier.origin);
        return Err(Failure::message(Exit::Proof, escaped(&text)));
    }
    let size = look.records().log_size()?;
    if let Some(earlier) = earlier.filter(|earlier| earlier.size > size) {
        let text =
            format!("log is truncated: it has {size} entries, the checkpoint has {}", earlier.size);
        return Err(Failure::message(Exit::Proof, text));
    }
    let mut tree = Tree::new();
    check_root(&tree, earlier)?;
    while tree.size() < size {
        add_page(&look, &mut tree, size, earlier, keys)?;
    }
    let root = tree.root();
    let checked = "every signature, and every hash from the receipts up to the root".into();
    Ok((Checkpoint { origin, size, root }, checked))
}

/// Adds receipts to a tree, and compares what changed with what is stored.
fn add_page(
    look: &Look,
    tree: &mut Tree,
    size: u64,
    earlier: Option<&Checkpoint>,
    keys: &KeyRing,
) -> Result<()> {
    let forged = |text: String| Failure::message(Exit::Proof, format!("log is forged: {text}"));
    let tiles = look.records().tiles();
    let first = tree.size();
    for logged in look.records().receipts(first, PAGE_ROWS_MAX)? {
        let index = tree.size();
        if logged.index != index || index >= size {
            break;
        }
        let verified = logged.envelope.verify(keys);
        let verified = verified.map_err(|error| {
            Failure::from(error)
                .with_exit(Exit::Proof)
                .of(format!("log is forged: receipt {index}"))
        })?;
        if verified.receipt.job != logged.job.to_string() {
            let job = &verified.receipt.job;
            return Err(forged(format!(
                "receipt {index} is of job {job}, stored for {}",
                logged.job
            )));
        }
        tree.append(&logged.envelope.digest());
        check_root(tree, earlier)?;
    }
    if tree.size() == first {
        let text = format!("log is truncated: receipt {first} of {size} is missing");
        return Err(Failure::message(Exit::Proof, text));
    }
    let changed = tree.take_changed();
    for bundle in changed.bundles {
        let stored = tiles.entries(bundle.index);
        let stored = stored.map_err(|error| Failure::from(HostFault::from(error)))?;
        if !stored.unwrap_or_default().starts_with(&bundle.entries) {
            return Err(forged(format!(
                "entries of bundle {} are not the receipts'",
                bundle.index
            )));
        }
    }
    for TileUpdate { level, index, hashes } in changed.tiles {
        let stored = tiles.hashes(level, index);
        let stored = stored.map_err(|error| Failure::from(HostFault::from(error)))?;
        let stored = stored.unwrap_or_default();
        // One that grows has more by now than this page.
        if !stored.starts_with(&hashes) {
            let path = tile_path(level, index, (hashes.len() / HASH_BYTES).min(TILE_WIDTH));
            return Err(forged(format!("tile {path} is not that of the receipts")));
        }
    }
    Ok(())
}

/// Where an earlier checkpoint was made, the root must be that one's.
fn check_root(tree: &Tree, earlier: Option<&Checkpoint>) -> Result<()> {
    let Some(earlier) = earlier.filter(|earlier| earlier.size == tree.size()) else {
        return Ok(());
    };
    let (found, signed) = (tree.root(), earlier.root);
    if found == signed {
        return Ok(());
    }
    let size = tree.size();
    let text = format!(
        "log is forged: its first {size} entries have root {found}, the checkpoint has {signed}"
    );
    Err(Failure::message(Exit::Proof, text))
}

fn export(path: &Path, json: bool, global: &Global) -> Result<()> {
    let host = data::open_books(global)?;
    let (checkpoint, keys) = (host.checkpoint()?, host.key_ring());
    let folder = Folder::new(path);
    let written = host.read(|records| folder.publish(&records.tiles(), &checkpoint, &keys))??;
    let Checkpoint { origin, size, root } = written;
    let value =
        Json { origin, size, root, checked: format!("written to {}", folder.path().display()) };
    print(json, &value, || {
        facts(&[
            ("log", value.origin.clone()),
            ("size", format!("{} receipts", grouped(size))),
            ("root", root.to_string()),
            ("folder", folder.path().display().to_string()),
        ])
    })
}
