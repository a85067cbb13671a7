//! Loading: the guest reads its assets, once, and what it leaves in memory becomes the model image.
//!
//! Enters: code and assets. Leaves: the content of a [`ModelImage`](crate::ModelImage), or a verdict.
//! A load is a job like any other: fuel, limits, a bill.

use crate::{
    engine::Code,
    image::GlobalValue,
    limits::JobLimits,
    sandbox::{Cancel, Entry, HostFault, Sandbox, Stop, bad_request},
    signature::Signature,
    tensor::OwnedParameter,
    verdict::{Outcome, Usage, Verdict},
};
use fuelbox_abi::{ABI_VERSION, DataType, Envelope, Kind, Shape, TensorSpec, TensorView};
use std::sync::Arc;

/// The randomness of every load: a load is part of what a model is, not of any job.
const LOAD_SEED: u64 = 0;

/// What a guest is loaded with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LoadRequest<'a> {
    /// Names and bytes of the package's assets.
    pub(crate) assets: &'a [(&'a str, &'a [u8])],
    /// Input shapes to plan for; none for the model's own.
    pub(crate) shapes: &'a [TensorSpec<'a>],
    /// Settings of the package.
    pub(crate) parameters: &'a [OwnedParameter],
}

/// What a load leaves behind: the instance, whose memory is not stored yet.
pub(crate) struct Loaded {
    sandbox: Sandbox,
    pub(crate) signature: Signature,
    pub(crate) globals: Vec<GlobalValue>,
    pub(crate) usage: Usage,
    pub(crate) log: String,
}

impl Loaded {
    /// The memory to be stored as the model image.
    pub(crate) fn memory(&mut self) -> &[u8] {
        self.sandbox.memory()
    }
}

/// Loads a model.
///
/// # Errors
/// The host's own failures. The guest's are the `Err` of the inner result: an outcome that is not
/// [`Verdict::Completed`].
pub(crate) fn load(
    code: &Arc<Code>,
    request: &LoadRequest<'_>,
    limits: &JobLimits,
    cancel: &Cancel,
) -> Result<Result<Loaded, Outcome>, HostFault> {
    let pool = code.initial_pool();
    let mut sandbox = Sandbox::instantiate(code, pool, &[], limits, LOAD_SEED, Entry::Load)?;
    let signature = match start(&mut sandbox, code, request, limits, cancel) {
        Ok(signature) => signature,
        Err(Stop::Fault(fault)) => return Err(fault),
        Err(Stop::Verdict(verdict)) => return sandbox.end(verdict).map(Err),
    };
    let lost = || HostFault::Engine(wasmtime::format_err!("a mutable global cannot be read"));
    let globals = sandbox.globals().ok_or_else(lost)?;
    let (usage, log) =
        sandbox.books(&Verdict::Completed { outputs: vec![], parameters: vec![] })?;
    Ok(Ok(Loaded { sandbox, signature, globals, usage, log }))
}

fn start(
    sandbox: &mut Sandbox,
    code: &Code,
    request: &LoadRequest<'_>,
    limits: &JobLimits,
    cancel: &Cancel,
) -> Result<Signature, Stop> {
    let exports = code.exports();
    sandbox.call_plain::<()>(exports.initialize.as_ref(), cancel)?;
    let abi = sandbox.call_plain::<i32>(Some(&exports.abi), cancel)?.unwrap_or_default();
    if abi != ABI_VERSION as i32 {
        let detail = format!("the guest speaks ABI version {abi}, this host {ABI_VERSION}");
        return Err(Verdict::BadOutput { detail }.into());
    }
    let parameters: Vec<_> = request.parameters.iter().map(OwnedParameter::view).collect();
    let tensors: Vec<_> = request.assets.iter().map(|(name, bytes)| asset(name, bytes)).collect();
    let envelope = Envelope {
        tensors: &tensors,
        specs: request.shapes,
        parameters: &parameters,
        ..Envelope::new(Kind::Load)
    };
    let message = envelope.encode().map_err(|error| bad_request(&error))?;
    let reply = sandbox.call(Entry::Load, &message, cancel)?;
    sandbox.read(reply, limits.output_bytes, |message| {
        let bad = |detail: String| Verdict::BadOutput { detail };
        if message.kind() != Kind::Signature {
            return Err(bad(format!("reply of kind {:?}, expected Signature", message.kind())));
        }
        let twice = || bad("signature: a name appears twice".into());
        Signature::from_specs(message.specs()).ok_or_else(twice)
    })
}

fn asset<'a>(name: &'a str, bytes: &'a [u8]) -> TensorView<'a> {
    let shape = Shape::new(&[bytes.len() as u64]).unwrap_or_default(); // rank 1 is in bounds
    TensorView { name, datatype: DataType::Uint8, shape, bytes }
}
