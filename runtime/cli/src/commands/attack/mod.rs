//! `fuelbox attack`: hostile packages and jobs against a server, and what it made of them.
//!
//! A server of its own on an empty folder, or one that is there -> the suite -> report.

mod report;
mod site;
mod target;

use super::print;
use crate::{
    args::Global,
    client::{Address, ServerArgs},
    exit::{Exit, Failure, OrExit, Result},
    progress::Step,
};
use fuelbox_attack::{Broken, Group, Report, Suite, cases};
use site::Site;
use std::{path::PathBuf, time::Duration};
use target::Server;
use uuid::Uuid;

const EXAMPLES: &str = "\
Examples:
  fuelbox attack
  fuelbox attack --only leak --json
  fuelbox attack --url https://fuelbox.example --key-file attacker.key
";

/// Attack a host, and see whether it holds.
///
/// Uploads packages and runs jobs that try to get out of the sandbox, to get in others' way, to pay
/// nothing, to learn what is not theirs, and to be believed what is not so. After each case an honest
/// job must come out as before. Without --url a server of this program is started for it, on an empty
/// folder that goes again. With --url, the key is one of a publisher's account with the scopes publisher
/// and caller: what is burned is billed to it, and its packages stay, as private ones. Exit code 6 when
/// something does not hold.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct AttackArgs {
    /// A server that is there.
    #[arg(long, value_name = "URL", requires = "key_file")]
    url: Option<Address>,

    /// File with the access key for it.
    #[arg(long, value_name = "FILE", requires = "url")]
    key_file: Option<PathBuf>,

    /// Certificates to trust instead of the system's, as PEM.
    #[arg(long, value_name = "FILE.pem", requires = "url")]
    ca: Option<PathBuf>,

    /// Send the key in the clear to another machine.
    #[arg(long, requires = "url")]
    insecure: bool,

    /// Only cases with this in their name, or of this group: escape, denial, free_ride, leak, lie,
    /// model. Repeatable.
    #[arg(long, value_name = "TEXT")]
    only: Vec<String>,

    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Most time for one answer: the longest load of the suite takes a few seconds.
const ANSWER_TIME: Duration = Duration::from_secs(120);

/// Runs the command.
pub(crate) fn attack(args: &AttackArgs, global: &Global) -> Result<Exit> {
    let verbosity = global.verbosity();
    let guest = fuelbox_prebuilt::onnx().bytes().or_exit(Exit::Host)?;
    let mut cases = cases(&guest);
    cases.retain(|case| args.is_wanted(case.group, &case.name));
    if cases.is_empty() {
        let text = format!("no case is called '{}'", args.only.join("', '"));
        return Err(Failure::message(Exit::Usage, text));
    }
    let step = Step::start(verbosity, "starting ...");
    // Kept to the end: dropped, the server stops and its folder goes.
    let (site, server_args) = match (&args.url, &args.key_file) {
        (Some(url), Some(key_file)) => (None, args.server(url.clone(), key_file.clone())),
        _ => {
            let site = Site::start()?;
            let server = args.server(site.url().clone(), site.key_file().to_owned());
            (Some(site), server)
        }
    };
    let server = Server::new(server_args.remote(verbosity)?)?;
    // Names that no earlier suite has used on this server.
    let prefix = format!("attack-{}", &Uuid::new_v4().simple().to_string()[..12]);
    let suite = Suite::start(&server, &prefix).map_err(not_started)?;
    drop(step);
    let mut reports: Vec<Report> = Vec::with_capacity(cases.len());
    for (number, case) in cases.iter().enumerate() {
        let text = format!("{}/{} {}", number + 1, cases.len(), case.name);
        let _step = Step::start(verbosity, &text);
        reports.push(suite.attack(number, case));
        if site.as_ref().is_some_and(Site::is_gone) {
            // What comes now would all fail for the same reason.
            break;
        }
    }
    let held = reports.iter().all(|report| report.held) && reports.len() == cases.len();
    print(args.json, &report::Json { cases: &reports }, || report::table(&reports, cases.len()))?;
    Ok(if held { Exit::Completed } else { Exit::Host })
}

fn not_started(broken: Broken) -> Failure {
    Failure::message(Exit::Host, format!("an honest job does not come out: {broken}"))
}

impl AttackArgs {
    fn is_wanted(&self, group: Group, name: &str) -> bool {
        let is_group = |only: &str| Group::ALL.iter().any(|group| group.name() == only);
        let fits = |only: &String| match is_group(only) {
            true => group.name() == only,
            false => name.contains(only.as_str()),
        };
        self.only.is_empty() || self.only.iter().any(fits)
    }

    fn server(&self, url: Address, key_file: PathBuf) -> ServerArgs {
        let (ca, insecure) = (self.ca.clone(), self.insecure);
        // The suite itself decides what is sent again.
        ServerArgs { url, key_file: Some(key_file), ca, insecure, retries: 0, timeout: ANSWER_TIME }
    }
}
