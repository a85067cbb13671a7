//! A server as the suite has it: what it answers, told apart from its own failures.

use crate::{
    client::{Answer, LetGo, Refused, Remote, Trouble},
    exit::{Exit, OrExit, Result},
    units,
};
use base64::{Engine as _, prelude::BASE64_STANDARD};
use fuelbox_attack::{Broken, Dripped, End, Job, Published, Ran, Refusal, Target, Upload, Work};
use fuelbox_engine::{Archive, JobLimits};
use fuelbox_jobs::Schedule;
use fuelbox_ledger::Credits;
use fuelbox_oip::{Limits, decode_response, encode_request};
use fuelbox_receipt::{HostKey, PackageSignature};
use reqwest::{blocking::RequestBuilder, header::CONTENT_TYPE};
use serde::Deserialize;
use serde_json::{Map, Value};
use std::{
    env, fs,
    process::{Command, Stdio},
    time::Duration,
};

/// The server under attack.
pub(super) struct Server {
    remote: Remote,
    /// What packages are signed with: made for this suite.
    signing: HostKey,
    /// What the server says that things cost.
    prices: Schedule,
}

impl Drop for Server {
    fn drop(&mut self) {
        // A key that stays is of no use to anybody: its secret half is gone.
        let url = self.remote.url(&["api", "v1", "publisher-keys", &self.signing.id().to_string()]);
        let _ = self.remote.send_once(ANSWER_BYTES_MAX, |client| Ok(client.delete(url.clone())));
    }
}

/// Most fuel of a load, so that a case of one takes a second, not minutes.
const LOAD_FUEL: u64 = 2_000_000_000;

/// Bytes of an answer: the suite asks for no more.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// How long a pause is that a server asks for, at most.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How often a busy server is asked again.
const TRIES_MAX: u32 = 60;

/// How long a body may be taken that comes a byte at a time: three times a server's default.
const DRIP_TIME: Duration = Duration::from_secs(60);

/// What a package file is.
const PACKAGE: &str = "application/vnd.fuelbox.package";
/// How long the JSON is that comes before binary data.
const JSON_LENGTH: &str = "inference-header-content-length";

#[derive(Deserialize)]
struct PublishedJson {
    name: String,
    fuel: u64,
}

#[derive(Deserialize)]
struct AccountJson {
    balance: String,
}

impl Server {
    /// Registers a new key for the account.
    pub(super) fn new(remote: Remote) -> Result<Self> {
        let prices = prices(&remote)?;
        let signing = HostKey::generate()?;
        let document = serde_json::json!({ "public_key": signing.public_pem() });
        remote.post(&["api", "v1", "publisher-keys"], &document)?;
        Ok(Self { remote, signing, prices })
    }

    /// The header with a signature of a file; none when it is no package.
    fn signature(&self, file: &[u8]) -> Option<String> {
        let archive = Archive::read(file).ok()?;
        let manifest = archive.manifest();
        let (name, version) = (&manifest.name, &manifest.version);
        let signature = PackageSignature::sign(&self.signing, &manifest.digest(), name, version);
        Some(BASE64_STANDARD.encode(signature.to_bytes()))
    }

    /// Sends a request, again when the server is busy. Whatever is its failure breaks the case.
    fn send(
        &self,
        request: impl Fn(&reqwest::blocking::Client) -> RequestBuilder,
    ) -> Result<Result<Answer, Box<Refused>>, Broken> {
        for _ in 0..TRIES_MAX {
            match self.remote.send_once(ANSWER_BYTES_MAX, |client| Ok(request(client))) {
                Ok(answer) => return Ok(Ok(answer)),
                Err(Trouble::Refused(refused)) if refused.is_passing() => {
                    let pause = refused.retry_after.unwrap_or(Duration::from_secs(1));
                    std::thread::sleep(pause.min(PAUSE_MAX));
                }
                Err(Trouble::Refused(refused)) if refused.is_fault() => {
                    return Err(Broken(format!("the host failed: {refused}")));
                }
                Err(Trouble::Refused(refused)) => return Ok(Err(refused)),
                Err(other) => return Err(Broken::new(other)),
            }
        }
        let pause = units::show_duration(PAUSE_MAX);
        Err(Broken(format!("busy, asked {TRIES_MAX} times, up to {pause} apart")))
    }
}

impl Target for Server {
    fn publish(&self, package: &[u8]) -> Result<Upload, Broken> {
        let mut url = self.remote.url(&["api", "v1", "packages"]);
        let load_fuel = LOAD_FUEL.to_string();
        url.query_pairs_mut().extend_pairs([("visibility", "private"), ("load_fuel", &load_fuel)]);
        let signature = self.signature(package);
        let answer = self.send(|client| {
            let request = client.post(url.clone()).header(CONTENT_TYPE, PACKAGE);
            let request = match &signature {
                Some(signature) => request.header("fuelbox-signature", signature),
                None => request,
            };
            request.body(package.to_vec())
        })?;
        match answer {
            Ok(answer) => {
                let found: PublishedJson =
                    answer.document("package").map_err(|failure| Broken(format!("{failure:#}")))?;
                Ok(Upload::Published(Published { name: found.name, fuel: found.fuel }))
            }
            Err(refused) => Ok(Upload::Refused(refusal(&refused))),
        }
    }

    fn run(&self, job: &Job<'_>) -> Result<Ran, Broken> {
        let encoded = encode_request(None, &[], job.inputs, &[], true).map_err(Broken::new)?;
        let url = self.remote.url(&["v2", "models", job.model, "infer"]);
        let answer = self.send(|client| {
            let mut request = client.post(url.clone()).body(encoded.bytes.clone());
            request = match encoded.json_bytes {
                Some(bytes) => request
                    .header(CONTENT_TYPE, "application/octet-stream")
                    .header(JSON_LENGTH, bytes),
                None => request.header(CONTENT_TYPE, "application/json"),
            };
            request = request.header("fuelbox-fuel-limit", job.fuel);
            for (name, value) in [
                ("fuelbox-seed", Some(job.seed).filter(|seed| *seed != 0)),
                ("fuelbox-memory-limit", job.memory_bytes),
                ("fuelbox-deadline-ms", job.deadline_ms),
            ] {
                if let Some(value) = value {
                    request = request.header(name, value);
                }
            }
            request
        })?;
        match answer {
            Ok(answer) => completed(&answer).map(Ran::Ended),
            Err(refused) if refused.headers.contains_key("fuelbox-job") => Ok(Ran::Ended(End {
                verdict: refused.verdict.clone().unwrap_or_default(),
                detail: refused.to_string(),
                fuel: fuel(refused.header("fuelbox-fuel"))?,
                billed: refused.header("fuelbox-receipt").is_some(),
                outputs: Vec::new(),
            })),
            Err(refused) => Ok(Ran::Refused(refusal(&refused))),
        }
    }

    fn drip(&self, model: &str) -> Result<Dripped, Broken> {
        match self.remote.send_slowly(&["v2", "models", model, "infer"], DRIP_TIME) {
            Ok(LetGo::Answered(refused)) => Ok(Dripped::Refused(refusal(&refused))),
            Ok(LetGo::Closed) => Ok(Dripped::Closed),
            Err(error) => Err(Broken::new(error)),
        }
    }

    fn paid_micro(&self) -> Result<u64, Broken> {
        let url = self.remote.url(&["api", "v1", "account"]);
        let answer = self.send(|client| client.get(url.clone()))?.map_err(Broken::new)?;
        let account: AccountJson =
            answer.document("account").map_err(|failure| Broken(format!("{failure:#}")))?;
        // What is left, counted down: only differences are asked for.
        let balance: Credits = account.balance.parse().map_err(Broken::new)?;
        Ok(Credits::MAX.micros().saturating_sub(balance.micros()))
    }

    fn price_micro(&self, work: Work) -> Result<u64, Broken> {
        let price = match work {
            Work::Load { fuel } => self.prices.load(fuel),
            // What its memory costs comes on top: a job's peak is not in the answer.
            Work::Run { fuel, completed } => self
                .prices
                .bill(completed, fuel, 0, None)
                .map(|bill| bill.run.checked_sub(bill.publisher).unwrap_or(Credits::ZERO)),
        };
        price.map(Credits::micros).map_err(Broken::new)
    }

    fn printed(&self, package: &[u8]) -> Result<Vec<u8>, Broken> {
        let folder = tempfile::tempdir().map_err(Broken::new)?;
        let file = folder.path().join("package.fbx");
        fs::write(&file, package).map_err(Broken::new)?;
        let program = env::current_exe().map_err(Broken::new)?;
        let mut run = Command::new(program);
        run.args(["run", "--random", "1", "--verbose"]).arg(file).stdin(Stdio::null());
        run.arg("--cache-dir").arg(folder.path().join("cache"));
        let output = run.output().map_err(Broken::new)?;
        Ok([output.stdout, output.stderr].concat())
    }
}

/// The price list that the server publishes.
fn prices(remote: &Remote) -> Result<Schedule> {
    let answer = remote.get(&["api", "v1", "prices"])?;
    let mut document: Map<String, Value> = answer.document("price list")?;
    // That of all the rest, which is the schedule.
    document.remove("digest");
    let bytes = serde_json::to_vec(&document).or_exit(Exit::Host)?;
    Schedule::parse(&bytes).or_exit(Exit::Host)
}

fn refusal(refused: &Refused) -> Refusal {
    Refusal { code: refused.code.clone(), text: refused.to_string() }
}

fn completed(answer: &Answer) -> Result<End, Broken> {
    let json_bytes = answer.header(JSON_LENGTH).map(str::parse).transpose().map_err(Broken::new)?;
    let limits = Limits { tensor_bytes_max: JobLimits::default().output_bytes };
    let reply = decode_response(&answer.body, json_bytes, &limits).map_err(Broken::new)?;
    Ok(End {
        verdict: "completed".into(),
        detail: String::new(),
        fuel: fuel(answer.header("fuelbox-fuel"))?,
        billed: answer.header("fuelbox-receipt").is_some(),
        outputs: reply.outputs,
    })
}

/// A bill without fuel is none.
fn fuel(header: Option<&str>) -> Result<u64, Broken> {
    let found = header.ok_or_else(|| Broken("a job without a bill".into()))?;
    found.parse().map_err(Broken::new)
}
