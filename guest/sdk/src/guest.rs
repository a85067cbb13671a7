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
        Self { request: None, loaded: None, reply: None }
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
        self.reply(Envelope::failure(Error::status_of(error), &format!("{error:#}")))
    }
}

impl<M: Model> Guest<M> {
    /// Answers a `Load` message with `Signature` or `Failure`. Its frames, which hold what it read, lie
    /// below those of the export, to be wiped.
    #[inline(never)]
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
            Ok(specs) => self.reply(Envelope { specs: &specs, ..Envelope::new(Kind::Signature) }),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;
    use fuelbox_abi::{DataType, Message, Shape};

    /// Gives `x` plus the number in its asset.
    struct Bias(f32);

    impl Model for Bias {
        fn load(load: Load) -> Result<Self> {
            let text = std::str::from_utf8(load.asset("bias.txt")?)?;
            Ok(Self(text.parse().context("bias.txt")?))
        }

        fn signature(&self) -> Signature {
            Signature::new().input("x", DataType::Fp32, [2]).output("y", DataType::Fp32, [2])
        }

        fn run(&self, run: &Run<'_>) -> Result<Outputs> {
            if run.parameters().get("fail") == Some(&Value::Bool(true)) {
                return Err(Error::unsupported("failing is not")).context("as asked");
            }
            let x = run.elements::<f32>("x")?;
            Outputs::new().with("y", &[2], x.iter().map(|x| x + self.0).collect())
        }
    }

    /// Sends a message the way a host does; what comes back, in words.
    fn send(
        guest: &mut Guest<Bias>,
        envelope: Envelope<'_>,
        call: fn(&mut Guest<Bias>, u32, u32) -> i64,
    ) -> String {
        let encoded = envelope.encode().expect("within limits");
        let len = encoded.len() as u32;
        let ptr = guest.alloc(len);
        assert_ne!(ptr, 0);
        // Native pointers do not fit the host's 32 bits, so the bytes go in by the back door.
        let request = guest.request.as_mut().expect("allocated");
        encoded.write_to(request.as_mut_slice());
        let reply = call(guest, ptr, len);
        assert!(guest.request.is_none(), "a request is used once");
        words(guest, reply)
    }

    fn words(guest: &mut Guest<Bias>, reply: i64) -> String {
        let buffer = guest.reply.as_mut().expect("a reply");
        let (ptr, len) = address(buffer);
        assert_eq!(reply, pack_reply(ptr, len));
        let message = Message::decode(buffer.as_slice()).expect("a message");
        let tensors: Vec<_> = message.tensors().map(|tensor| tensor.bytes).collect();
        match message.kind() {
            Kind::Signature => format!("{:?}", message.specs().collect::<Vec<_>>()),
            Kind::Outputs => format!("{tensors:?}"),
            _ => format!("{:?}: {}", message.status(), message.text()),
        }
    }

    fn tensor<'a>(
        name: &'a str,
        datatype: DataType,
        shape: &[u64],
        bytes: &'a [u8],
    ) -> TensorView<'a> {
        TensorView { name, datatype, shape: Shape::new(shape).expect("rank"), bytes }
    }

    fn load(guest: &mut Guest<Bias>, assets: &[TensorView<'_>]) -> String {
        let tensors = assets;
        let envelope = Envelope { tensors, ..Envelope::new(Kind::Load) };
        send(guest, envelope, Guest::load)
    }

    const BIAS: &[u8] = b"1.5";

    fn bias() -> TensorView<'static> {
        tensor("bias.txt", DataType::Uint8, &[3], BIAS)
    }

    #[test]
    fn a_model_is_loaded_once_and_runs() {
        let mut guest = Guest::<Bias>::new();
        let signature = load(&mut guest, &[bias()]);
        assert!(signature.contains("name: \"x\", datatype: Fp32, dims: Some([2])"));
        let x = [1f32.to_le_bytes(), 2f32.to_le_bytes()].concat();
        let run = Envelope {
            tensors: &[tensor("x", DataType::Fp32, &[2], &x)],
            ..Envelope::new(Kind::Run)
        };
        let y = [2.5f32.to_le_bytes(), 3.5f32.to_le_bytes()].concat();
        assert_eq!(send(&mut guest, run, Guest::run), format!("{:?}", [y]));
        let parameters = &[fuelbox_abi::Parameter {
            name: "fail",
            value: fuelbox_abi::ParameterValue::Bool(true),
        }];
        let failing = Envelope { parameters, ..run };
        assert_eq!(send(&mut guest, failing, Guest::run), "Unsupported: as asked: failing is not");
        assert_eq!(
            send(&mut guest, Envelope::new(Kind::Run), Guest::run),
            "InvalidInput: input 'x' is missing: FP32 [2] is needed"
        );
        assert_eq!(
            load(&mut guest, &[bias()]),
            "Failed: a model is loaded already: one is allowed"
        );
    }

    #[test]
    fn bad_loads_are_refused() {
        for (assets, says) in [
            (vec![], "InvalidModel: asset 'bias.txt' is missing, found are []"),
            (vec![bias(), bias()], "InvalidInput: asset 'bias.txt' is there twice"),
            (
                vec![tensor("bias.txt", DataType::Int8, &[3], BIAS)],
                "InvalidInput: asset 'bias.txt': datatype INT8 found, UINT8 allowed",
            ),
            (
                vec![tensor("bias.txt", DataType::Uint8, &[2], b"no")],
                "Failed: bias.txt: invalid float literal",
            ),
        ] {
            assert_eq!(load(&mut Guest::new(), &assets), says);
        }
        let mut guest = Guest::new();
        assert_eq!(
            send(&mut guest, Envelope::new(Kind::Run), Guest::load),
            "InvalidInput: Run message found, Load allowed"
        );
        assert_eq!(
            send(&mut guest, Envelope::new(Kind::Run), Guest::run),
            "Failed: no model is loaded: load comes before run"
        );
    }

    #[test]
    fn wrong_places_are_answered_and_not_read() {
        let mut guest = Guest::<Bias>::new();
        let ptr = guest.alloc(64);
        for (ptr, len) in [(ptr, 65), (ptr.wrapping_add(64), 64), (0, 0), (1, u32::MAX)] {
            let reply = guest.load(ptr, len);
            let says = words(&mut guest, reply);
            assert!(
                says.starts_with(&format!("Failed: request at {ptr} of {len} bytes found")),
                "{says}"
            );
        }
        let reply = guest.load(ptr, 64);
        assert!(words(&mut guest, reply).starts_with("Failed: message starts with"));
        let reply = guest.load(ptr, 64);
        assert!(words(&mut guest, reply).ends_with("what was allocated: None"));
    }
}
