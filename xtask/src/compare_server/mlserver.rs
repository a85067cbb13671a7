//! MLServer: a virtual environment of its own, a model folder, and the settings that suit it best.

use super::rounds::{Round, Target};
use crate::{
    serving::{Ground, Model, Process, ports, run, until_ready},
    tools::{need, output, works},
};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use serde_json::json;
use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

const RUNTIME: &str = include_str!("../../../benches/compare-server/runtime.py");
const REQUIREMENTS: &str = include_str!("../../../benches/compare-server/requirements.txt");
/// It starts its workers one after the other, each with all of its imports.
const READY_MAX: Duration = Duration::from_secs(120);
/// Processes that run the model, besides the one that answers; with 0 the latter does it itself. More
/// than two do not help on two cores, which the client shares.
const WORKERS: [u32; 3] = [0, 1, 2];

/// A server that is ready.
pub(super) struct MlServer {
    process: Process,
    pub(super) http: SocketAddr,
    pub(super) grpc: SocketAddr,
    python: PathBuf,
}

/// What a setting brought.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trial {
    pub(super) parallel_workers: u32,
    /// By series.
    pub(super) requests_per_s: BTreeMap<&'static str, f64>,
}

impl Trial {
    /// For all protocols alike.
    fn score(&self) -> f64 {
        self.requests_per_s.values().product()
    }
}

impl MlServer {
    /// Tries all numbers of workers, and starts with the best.
    pub(super) fn best(ground: &Ground, model: &Model, round: Round) -> Result<(Self, Vec<Trial>)> {
        let python = environment(&ground.folder)?;
        let mut trials = Vec::new();
        for workers in WORKERS {
            let server = Self::start(ground, &python, model, workers)?;
            let mut requests_per_s = BTreeMap::new();
            for target in Target::of_mlserver(&server) {
                let report = run(ground, &target.plan(model, round))?;
                requests_per_s.insert(target.name, report.requests_per_s);
            }
            server.stop()?;
            let trial = Trial { parallel_workers: workers, requests_per_s };
            eprintln!("mlserver, {workers} workers: {:?}", trial.requests_per_s);
            trials.push(trial);
        }
        let best = trials.iter().max_by(|one, other| one.score().total_cmp(&other.score()));
        let workers = best.context("a trial")?.parallel_workers;
        Ok((Self::start(ground, &python, model, workers)?, trials))
    }

    fn start(ground: &Ground, python: &Path, model: &Model, workers: u32) -> Result<Self> {
        let folder = ground.empty("mlserver")?;
        let models = folder.join(&model.name);
        fs::create_dir_all(&models)?;
        fs::copy(&model.onnx, models.join("model.onnx"))?;
        fs::write(folder.join("runtime.py"), RUNTIME)?;
        let settings = json!({
            "name": model.name,
            "implementation": "runtime.OnnxModel",
            "parameters": { "uri": "./model.onnx", "version": "1" },
        });
        fs::write(models.join("model-settings.json"), settings.to_string())?;
        let [http, grpc] = ports()?;
        // Nothing that costs time and that the comparison has no use for: no access log, no metrics, no
        // compression. uvloop is what it takes when it is there.
        let settings = json!({
            "debug": false,
            "host": Ipv4Addr::LOCALHOST,
            "http_port": http,
            "grpc_port": grpc,
            "metrics_endpoint": null,
            "gzip_enabled": false,
            "parallel_workers": workers,
        });
        fs::write(folder.join("settings.json"), settings.to_string())?;
        let mut command = Command::new(python.with_file_name("mlserver"));
        command.args(["start", "."]).current_dir(&folder);
        let started = Instant::now();
        let log = ground.folder.join("mlserver.log");
        let mut process = Process::start("mlserver", &mut command, log)?;
        let [http, grpc] = [http, grpc].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let ready = format!("http://{http}/v2/models/{}/ready", model.name);
        until_ready(&mut process, started, READY_MAX, || {
            crate::serving::is_ok(&ready) && TcpStream::connect(grpc).is_ok()
        })?;
        Ok(Self { process, http, grpc, python: python.into() })
    }

    /// Of what it is made of.
    pub(super) fn versions(&self) -> Result<BTreeMap<String, String>> {
        const SCRIPT: &str = "\
import json, platform
from importlib.metadata import version
names = ['mlserver', 'onnxruntime', 'numpy', 'uvicorn', 'uvloop', 'httptools', 'grpcio', 'orjson']
print(json.dumps({'python': platform.python_version()} | {name: version(name) for name in names}))";
        let text = output(Command::new(&self.python).args(["-c", SCRIPT]))?;
        Ok(serde_json::from_str(&text)?)
    }

    pub(super) fn stop(self) -> Result<()> {
        self.process.stop()
    }
}

/// A virtual environment with MLServer, `compare-venv` beside the folder.
fn environment(folder: &Path) -> Result<PathBuf> {
    need("python3.11", "Python 3.11 with its venv module: what MLServer's requirements are for")?;
    let venv = folder.with_file_name("compare-venv");
    let python = venv.join("bin/python");
    if works(Command::new(&python).args(["-c", "import mlserver, onnxruntime, httptools"])) {
        return Ok(python);
    }
    eprintln!("installing mlserver ...");
    let made = Command::new("python3.11").args(["-m", "venv", "--clear"]).arg(&venv).status()?;
    ensure!(made.success(), "python3.11 -m venv failed: install its venv module");
    let requirements = folder.join("requirements.txt");
    fs::write(&requirements, REQUIREMENTS)?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]);
    ensure!(
        pip.arg(requirements).status()?.success(),
        "pip cannot install mlserver: is there a package index?"
    );
    Ok(python)
}
