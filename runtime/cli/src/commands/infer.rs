//! `fuelbox infer`: a job on a server.
//!
//! inputs and the model's metadata -> request -> answer with its bill -> receipt, checked -> report.
//! Any server of the Open Inference Protocol answers; bill and receipt are fuelbox's own.

mod report;
mod verify;

use super::submit::{ShownArgs, WantedArgs};
use crate::{
    args::Global,
    client::{Answer, Remote, ServerArgs, Trouble, header},
    data,
    exit::{Exit, Failure, OrExit, Result, print_error},
    file,
    input::{InputArgs, Inputs},
    output::npz::Npz,
    progress::Sending,
    source,
};
use fuelbox_engine::{
    DataType, Digest, JobLimits, OwnedDim, OwnedParameter, Signature, TensorSignature,
};
use fuelbox_oip::{Limits, ModelMetadata, TensorMetadata, encode_request};
use fuelbox_receipt::{Envelope, envelope::ENVELOPE_BYTES_MAX};
use report::Report;
use reqwest::{
    blocking::{Body, Client, RequestBuilder},
    header::{CONTENT_TYPE, HeaderMap},
};
use std::{
    io::{self, Cursor, Read, Write},
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};
use uuid::Uuid;

const EXAMPLES: &str = "\
Examples:
  fuelbox infer digits --key-file alice.key --input seven.npy
  fuelbox infer digits:1.0.0 --url https://fuelbox.example --input seven.npy --json
  fuelbox infer digits --input seven.npy --receipt job.json --verify host.pem
";

/// Run a model of a server, and get the answer with its bill.
///
/// Inputs are given as for `fuelbox run`. The request carries a key of its own, so that it is paid once
/// however often it has to be sent. The access key comes from a file or from FUELBOX_KEY.
#[derive(clap::Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct InferArgs {
    /// NAME (the version published last) or NAME:VERSION.
    #[arg(value_name = "MODEL[:VERSION]")]
    model: ModelName,

    #[command(flatten)]
    server: ServerArgs,

    #[command(flatten)]
    inputs: InputArgs,

    #[command(flatten)]
    wanted: WantedArgs,

    /// Seed of the randomness that the model is given.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,

    /// Your name for this request: sent twice under one name, it runs and is paid once. Made up when
    /// not given.
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    idempotency_key: Option<String>,

    /// Check the job's receipt with these public keys, and that it is of this request and this answer.
    /// Exit code 8 when it is not. Repeatable.
    #[arg(long, value_name = "KEYS.pem")]
    verify: Vec<PathBuf>,

    #[command(flatten)]
    shown: ShownArgs,
}

/// A model of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ModelName {
    name: String,
    version: Option<String>,
}

impl FromStr for ModelName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let (name, version) = match text.split_once(':') {
            Some((name, version)) => (name, Some(version.to_owned())),
            None => (text, None),
        };
        // As parts of a path they would be something else.
        let is_part = |part: &str| !matches!(part, "" | "." | "..");
        if is_part(name) && version.as_deref().is_none_or(is_part) {
            Ok(Self { name: name.to_owned(), version })
        } else {
            Err("NAME or NAME:VERSION was expected")
        }
    }
}

impl ModelName {
    /// The path of the model, or of something of it.
    fn path<'a>(&'a self, more: &[&'a str]) -> Vec<&'a str> {
        let mut path = vec!["v2", "models", self.name.as_str()];
        if let Some(version) = &self.version {
            path.extend(["versions", version]);
        }
        path.extend(more);
        path
    }
}

fn parse_key(text: &str) -> Result<String, &'static str> {
    let printable = text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if printable && (1..=255).contains(&text.len()) {
        Ok(text.to_owned())
    } else {
        Err("allowed are 1 to 255 printable ASCII characters")
    }
}

/// What was sent, as receipts have it.
struct Sent {
    inputs: Inputs,
    seed: u64,
}

/// Runs the command.
pub(crate) fn infer(args: &InferArgs, global: &Global) -> Result<Exit> {
    let verbosity = global.verbosity();
    // All files first: nothing is sent for a typo.
    let remote = args.server.remote(verbosity)?;
    let read = args.inputs.read().or_exit(Exit::BadInput)?;
    let labels = args.shown.labels.as_deref().map(source::read_labels).transpose()?;
    let keys = match args.verify.as_slice() {
        [] => None,
        files => Some(data::keys(global, files)?),
    };
    let answer = remote.get(&args.model.path(&[]))?;
    let signature = signature(&answer.document::<ModelMetadata>("metadata of the model")?)?;
    let InputArgs { random, dim, .. } = &args.inputs;
    let mut inputs = read.bind(&signature, *random, dim).or_exit(Exit::BadInput)?;
    // As hosts have it: one request has one form.
    inputs.parameters.sort_by(|a, b| a.name.cmp(&b.name));
    let sent = Sent { inputs, seed: args.seed };

    let report = send(args, &remote, &sent)?;
    let wants_receipt = keys.is_some() || args.shown.receipt.is_some();
    let receipt = if wants_receipt { Some(fetch_receipt(&remote, &report)) } else { None };
    let receipt = receipt.transpose();
    let checked = match (&keys, &receipt) {
        (Some(keys), Ok(Some(envelope))) => Some(verify::verify(envelope, keys, &sent, &report)),
        (Some(_) | None, Ok(_) | Err(_)) => None,
    };
    // First the answer: it is paid for, whatever becomes of the files.
    let verified = checked.as_ref().map(Result::is_ok);
    report.print(args.shown.json, labels.as_ref(), verified)?;
    if let (Some(path), Some(envelope)) = (&args.shown.receipt, receipt?) {
        let bytes = envelope.to_bytes();
        file::write(path, |file| Ok(file.write_all(&bytes)?)).or_exit(Exit::Host)?;
    }
    checked.transpose()?;
    let exit = report.exit();
    if let Some(path) = args.shown.output.as_deref().filter(|_| exit == Exit::Completed) {
        let npz = Npz::of(report.outputs()).or_exit(Exit::Usage)?;
        file::write(path, |file| npz.write(file)).or_exit(Exit::Host)?;
    }
    if let Some(detail) = report.detail() {
        print_error(detail);
    }
    Ok(exit)
}

/// What a model takes and gives, from what a server says of it.
fn signature(metadata: &ModelMetadata) -> Result<Signature> {
    let tensor = |tensor: &TensorMetadata| {
        let TensorMetadata { name, datatype, shape } = tensor;
        let unknown = || {
            let text =
                format!("the model's '{name}' is of datatype '{datatype}', which is unknown");
            Failure::message(Exit::BadInput, text)
        };
        let dim = |size: &i64| u64::try_from(*size).map_or(OwnedDim::Any(()), OwnedDim::Fixed);
        Ok(TensorSignature {
            name: name.clone(),
            datatype: DataType::from_name(datatype).ok_or_else(unknown)?,
            shape: Some(shape.iter().map(dim).collect()),
        })
    };
    let tensors = |list: &[TensorMetadata]| list.iter().map(tensor).collect::<Result<Vec<_>>>();
    Ok(Signature { inputs: tensors(&metadata.inputs)?, outputs: tensors(&metadata.outputs)? })
}

/// Sends the request, and gives what became of the job.
fn send(args: &InferArgs, remote: &Remote, sent: &Sent) -> Result<Report> {
    let Inputs { tensors, parameters } = &sent.inputs;
    let own = |parameter: &OwnedParameter| parameter.name.starts_with("fuelbox_");
    if let Some(parameter) = parameters.iter().find(|parameter| own(parameter)) {
        let name = parameter.name.escape_debug();
        let text = format!("parameter '{name}': it is the server's; there is an option for it");
        return Err(Failure::message(Exit::Usage, text));
    }
    let encoded = encode_request(None, parameters, tensors, &[], true).or_exit(Exit::BadInput)?;
    let headers = headers(args)?;
    let json_bytes = encoded.json_bytes;
    let body = Arc::new(encoded.bytes);
    let url = remote.url(&args.model.path(&["infer"]));
    let answered = remote.send(answer_bytes_max(), |client: &Client| -> Result<RequestBuilder> {
        let mut request = client.post(url.clone()).headers(headers.clone());
        request = match json_bytes {
            Some(bytes) => {
                request.header(CONTENT_TYPE, "application/octet-stream").header(JSON_LENGTH, bytes)
            }
            None => request.header(CONTENT_TYPE, "application/json"),
        };
        let length = body.len() as u64;
        let bar = Sending::start(remote.verbosity(), "sending the inputs", length);
        let body = Watched { body: Cursor::new(Shared(body.clone())), bar };
        Ok(request.body(Body::sized(body, length)))
    });
    match answered {
        Ok(answer) => completed(&answer),
        Err(Trouble::Refused(refused)) if refused.headers.contains_key("fuelbox-job") => {
            Ok(Report::of_failed(&refused))
        }
        Err(trouble) => Err(trouble.into()),
    }
}

/// How long the JSON is that comes before binary data.
const JSON_LENGTH: &str = "inference-header-content-length";

/// Bytes of an answer: the outputs that a job may have, as binary data, and what is around them.
fn answer_bytes_max() -> u64 {
    JobLimits::default().output_bytes + (16 << 20)
}

fn completed(answer: &Answer) -> Result<Report> {
    let json_bytes = match answer.header(JSON_LENGTH).map(str::parse) {
        None => None,
        Some(Ok(bytes)) => Some(bytes),
        Some(Err(_)) => {
            let text = format!("the server's header {JSON_LENGTH} is no number");
            return Err(Failure::message(Exit::Host, text));
        }
    };
    let limits = Limits { tensor_bytes_max: JobLimits::default().output_bytes };
    let reply = fuelbox_oip::decode_response(&answer.body, json_bytes, &limits);
    let reply = reply.map_err(|error| Failure::message(Exit::Host, error))?;
    Ok(Report::of_completed(reply, &answer.headers))
}

/// What the caller chose, as headers: the model's parameters stay its own.
fn headers(args: &InferArgs) -> Result<HeaderMap> {
    let WantedArgs { fuel_limit, memory_limit, load_fuel_limit, deadline } = &args.wanted;
    let millis = |time: &Duration| u64::try_from(time.as_nanos().div_ceil(1_000_000));
    let deadline = deadline.as_ref().map(|time| millis(time).unwrap_or(u64::MAX));
    let seed = Some(args.seed).filter(|seed| *seed != 0);
    let mut headers = HeaderMap::new();
    for (name, value) in [
        ("fuelbox-fuel-limit", *fuel_limit),
        ("fuelbox-memory-limit", *memory_limit),
        ("fuelbox-load-fuel-limit", *load_fuel_limit),
        ("fuelbox-deadline-ms", deadline),
        ("fuelbox-seed", seed),
    ] {
        if let Some(value) = value {
            headers.insert(name, value.into());
        }
    }
    let key = args.idempotency_key.clone().unwrap_or_else(|| Uuid::now_v7().to_string());
    // It was checked as an argument.
    let key = key.try_into().or_exit(Exit::Usage)?;
    headers.insert("idempotency-key", key);
    Ok(headers)
}

/// The job's receipt.
fn fetch_receipt(remote: &Remote, report: &Report) -> Result<Envelope> {
    let job = report.job().ok_or_else(|| {
        Failure::message(Exit::Proof, "the server names no job: there is no receipt to check")
    })?;
    let url = remote.url(&["api", "v1", "jobs", job, "receipt"]);
    let answer = remote.send(ENVELOPE_BYTES_MAX as u64, |client| Ok(client.get(url.clone())));
    let answer = answer.map_err(|trouble| match trouble {
        Trouble::Refused(refused) => {
            Failure::message(Exit::Proof, refused).of(format!("receipt of job {job}"))
        }
        Trouble::Lost(_) | Trouble::Cut(_) | Trouble::Own(_) => trouble.into(),
    })?;
    let parsed = Envelope::parse(&answer.body);
    parsed.map_err(|error| Failure::from(error).with_exit(Exit::Proof))
}

/// A digest in a header.
fn digest(headers: &HeaderMap, name: &str) -> Option<Digest> {
    header(headers, name)?.parse().ok()
}

/// A body that is sent, with a bar that says how much of it is gone.
struct Watched {
    body: Cursor<Shared>,
    bar: Sending,
}

/// Bytes that are sent again without a copy.
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Read for Watched {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.body.read(buffer)?;
        self.bar.at(self.body.position());
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_a_name_with_or_without_a_version() {
        let model = |name: &str, version: Option<&str>| {
            Ok(ModelName { name: name.into(), version: version.map(Into::into) })
        };
        for (text, expected) in [
            ("digits", model("digits", None)),
            ("acme.digits:1.0.0+b", model("acme.digits", Some("1.0.0+b"))),
            ("a:", Err("NAME or NAME:VERSION was expected")),
            (":1", Err("NAME or NAME:VERSION was expected")),
            ("..", Err("NAME or NAME:VERSION was expected")),
            ("a:.", Err("NAME or NAME:VERSION was expected")),
        ] {
            assert_eq!(text.parse(), expected, "{text}");
        }
    }

    #[test]
    fn metadata_says_what_a_model_takes() {
        let tensor = |datatype: &str, shape: &[i64]| TensorMetadata {
            name: "x".into(),
            datatype: datatype.into(),
            shape: shape.into(),
        };
        let metadata = |input| ModelMetadata {
            name: "m".into(),
            versions: vec![],
            platform: String::new(),
            inputs: vec![input],
            outputs: vec![],
        };
        let found = signature(&metadata(tensor("FP32", &[-1, 3]))).expect("known");
        let dims = vec![OwnedDim::Any(()), OwnedDim::Fixed(3)];
        assert_eq!(found.inputs[0].shape, Some(dims));
        let error = signature(&metadata(tensor("FP8", &[]))).expect_err("unknown").to_string();
        assert_eq!(error, "the model's 'x' is of datatype 'FP8', which is unknown");
    }
}
