//! A guest between its exports and its model: requests come in as bytes, replies go out as bytes.
//!
//! Invariant: the host's words are only ever compared with addresses, never used as one. So wrong
//! pointers are answered with a failure, and are no way into the guest's memory.

use crate::{Error, Load, Model, Outputs, Run, Signature, buffer::Buffer};
use anyhow::{Context, Result, anyhow, bail};
use fuelbox_abi::{Encoded, Envelope, Kind, Status, TensorView, pack_reply};
use std::hash::RandomState;

/// The state of a guest: at most one request, one model and one reply at a time.
#[derive(Debug)]
pub struct Guest<M> {
    request: Option<Buffer>,
    loaded: Option<Loaded<M>>,
    reply: Option<Buffer>,
}

#[derive(Debug)]
struct Loaded<M> {
    model: M,
    signature: Signature,
}

impl<M> Default for Guest<M> {
    fn default() -> Self {
        Self::new()
    }
}

impl<M> Guest<M> {
    /// Nothing loaded yet.
    pub const fn new() -> Self {
        Self {
            request: None,
            loaded: None,
            reply: None,
        }
    }

    /// Makes room for a request and says where; 0 when there is no memory. A request that was there
    /// goes.
    pub fn alloc(&mut self, len: u32) -> u32 {
        self.request = None;
        self.request = Buffer::new(len as usize);
        self.request.as_mut().map_or(0, |buffer| address(buffer).0)
    }

    /// The request that was written to the room at this place. It is the guest's own, so it can be
    /// dropped at any time.
    fn take_request(&mut self, ptr: u32, len: u32) -> Result<Buffer> {
        let place = self.request.as_mut().map(address);
        if place != Some((ptr, len)) {
            bail!(
                "request at {ptr} of {len} bytes found, allowed is what was allocated: {place:?}"
            );
        }
        self.request.take().context("no request was allocated")
    }

    fn reply(&mut self, envelope: Envelope<'_>) -> i64 {
        let reply = match envelope.encode() {
            Ok(encoded) => write(&encoded),
            Err(error) => write_failure(Status::Failed, &format!("reply: {error}")),
        };
        let packed = |buffer| {
            let (ptr, len) = address(buffer);
            pack_reply(ptr, len)
        };
        self.reply = reply;
        // No memory even for a failure: the empty place says so, and the host takes no message there.
        self.reply.as_mut().map_or(0, packed)
    }

    fn fail(&mut self, error: &anyhow::Error) -> i64 {
        // Free what the failed attempt still holds before taking more.
        self.reply = None;
        self.reply(Envelope::failure(
            Error::status_of(error),
            &format!("{error:#}"),
        ))
    }
}

impl<M: Model> Guest<M> {
    /// Answers a `Load` message with `Signature` or `Failure`.
    pub fn load(&mut self, ptr: u32, len: u32) -> i64 {
        // The keys of Rust's hash maps come from the job's seed when the first map of a thread is
        // made. Made here, they are part of the image, and no job's seed changes the order in which
        // a map of the model is walked.
        let _ = RandomState::new();
        let loaded = match self.try_load(ptr, len) {
            Ok(loaded) => loaded,
            Err(error) => return self.fail(&error),
        };
        let reply = match loaded.signature.to_abi() {
            Ok(specs) => self.reply(Envelope {
                specs: &specs,
                ..Envelope::new(Kind::Signature)
            }),
            Err(error) => return self.fail(&error.into()),
        };
        self.loaded = Some(loaded);
        reply
    }

    /// Answers a `Run` message with `Outputs` or `Failure`.
    pub fn run(&mut self, ptr: u32, len: u32) -> i64 {
        let outputs = match self.try_run(ptr, len) {
            Ok(outputs) => outputs,
            Err(error) => return self.fail(&error),
        };
        let tensors: Vec<TensorView<'_>> = outputs.tensors().collect();
        self.reply(Envelope {
            tensors: &tensors,
            parameters: &outputs.parameters().to_abi(),
            ..Envelope::new(Kind::Outputs)
        })
    }

    fn try_load(&mut self, ptr: u32, len: u32) -> Result<Loaded<M>> {
        let request = self.take_request(ptr, len)?;
        if self.loaded.is_some() {
            bail!("a model is loaded already: one is allowed");
        }
        let model = M::load(Load::decode(request)?)?;
        let signature = model.signature();
        Ok(Loaded { model, signature })
    }

    fn try_run(&mut self, ptr: u32, len: u32) -> Result<Outputs> {
        let request = self.take_request(ptr, len)?;
        let Loaded { model, signature } = self
            .loaded
            .as_ref()
            .ok_or_else(|| anyhow!("no model is loaded: load comes before run"))?;
        let run = Run::decode(request.as_slice())?;
        signature.check(run.inputs())?;
        model.run(&run)
    }
}

fn address(buffer: &mut Buffer) -> (u32, u32) {
    let (address, len) = buffer.expose();
    // Addresses of Wasm memory have 32 bits; in native tests these are only compared and unpacked.
    (address as u32, len as u32)
}

fn write(encoded: &Encoded<'_>) -> Option<Buffer> {
    match Buffer::new(encoded.len()) {
        Some(mut buffer) => {
            encoded.write_to(buffer.as_mut_slice());
            Some(buffer)
        }
        None => write_failure(
            Status::Failed,
            &format!("no memory for a reply of {} bytes", encoded.len()),
        ),
    }
}

fn write_failure(status: Status, text: &str) -> Option<Buffer> {
    let encoded = Envelope::failure(status, text).encode().ok()?;
    let mut buffer = Buffer::new(encoded.len())?;
    encoded.write_to(buffer.as_mut_slice());
    Some(buffer)
}
