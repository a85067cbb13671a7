//! Hosts for tests: an engine with a cache, and models of it.

use crate::onnx::{Element, models::Sample};
use fuelbox_engine::{
    Asset, Cache, Cancel, Codegen, DataType, Digest, Engine, GuestModule, JobLimits, Model,
    ModelError, Options, Outcome, Package, Shape, Tensor,
};
use std::path::PathBuf;

/// An engine with a cache of its own, gone when dropped.
pub struct Host {
    /// The engine.
    pub engine: Engine,
    _cache: Option<tempfile::TempDir>,
}

impl Host {
    /// A host with an empty cache.
    ///
    /// # Panics
    /// When this machine cannot run one.
    pub fn fresh(options: Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache::open(folder.path().join("cache")).expect("a cache");
        let engine = Engine::new(cache, options).expect("an engine");
        Self { engine, _cache: Some(folder) }
    }

    /// A host whose cache stays for the next test run: for guests that take long to compile. Each
    /// codegen has one of its own, so that models are loaded by it, too.
    ///
    /// # Panics
    /// When this machine cannot run one.
    pub fn shared(options: Options) -> Self {
        let mut folder = shared_cache();
        if options.codegen != Codegen::Native {
            folder = folder.with_file_name(format!("fuelbox-test-cache-{:?}", options.codegen));
        }
        let cache = Cache::open(folder).expect("a cache");
        Self { engine: Engine::new(cache, options).expect("an engine"), _cache: None }
    }

    /// Opens a guest without assets.
    ///
    /// # Errors
    /// See [`Model::open`].
    pub fn open(&self, wasm: Vec<u8>) -> Result<Model, ModelError> {
        let package = Package { module: GuestModule::new(wasm), assets: Vec::new() };
        Model::open(&self.engine, package, &JobLimits::default(), || ())
    }

    /// Opens an ONNX file in the stock guest.
    ///
    /// # Errors
    /// See [`Model::open`].
    pub fn open_onnx(&self, onnx: Vec<u8>) -> Result<Model, ModelError> {
        Model::open(&self.engine, onnx_package(onnx), &JobLimits::default(), || ())
    }
}

/// Where compiled guests stay between test runs: in the folder of the build.
pub fn shared_cache() -> PathBuf {
    let exe = std::env::current_exe().expect("a test is a program");
    let target = exe.ancestors().find(|path| path.file_name().is_some_and(|name| name == "target"));
    target.unwrap_or(exe.parent().expect("in a folder")).join("fuelbox-test-cache")
}

/// An ONNX file with the stock guest.
pub fn onnx_package(onnx: Vec<u8>) -> Package {
    let guest = fuelbox_prebuilt::onnx();
    let bytes = || fuelbox_prebuilt::onnx().bytes().map_err(|error| error.to_string());
    let module = GuestModule::lazy(Digest::from_bytes(guest.digest()), bytes);
    Package { module, assets: vec![Asset::new("model.onnx", onnx)] }
}

/// A tensor of FP32 elements.
///
/// # Panics
/// When there are too many dimensions.
pub fn fp32(name: &str, shape: &[u64], values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let shape = Shape::new(shape).expect("a rank in bounds");
    Tensor { name: name.into(), datatype: DataType::Fp32, shape, bytes }
}

/// The inputs of a model that was made on the spot.
///
/// # Panics
/// When an input has elements that no sample has.
pub fn inputs(sample: &Sample) -> Vec<Tensor> {
    let tensors = sample.inputs.iter().map(|input| Tensor {
        name: input.name.into(),
        datatype: match input.element {
            Element::F32 => DataType::Fp32,
            Element::I64 => DataType::Int64,
            other => panic!("{}: {other:?}", input.name),
        },
        shape: Shape::new(&input.shape).expect("a rank in bounds"),
        bytes: input.bytes.clone(),
    });
    tensors.collect()
}

/// Runs one job with these limits.
///
/// # Panics
/// When the request does not fit the model or the host fails.
pub fn run(model: &Model, inputs: &[Tensor], limits: &JobLimits) -> Outcome {
    let prepared = model.prepare(inputs, &[], limits, &JobLimits::default());
    prepared.expect("a request that fits").run(limits, 0, &Cancel::default()).expect("no fault")
}
