//! One attack: what it may do to a target, and what it keeps count of.

use crate::{
    guest::Guest,
    package::Package,
    target::{Broken, End, Job, Published, Ran, Refusal, Target, Upload, Work},
};
use fuelbox_engine::{DataType, Shape, Tensor, is_active};

/// What an attack works with.
pub(crate) struct Attempt<'a> {
    target: &'a dyn Target,
    /// What its packages are called, apart from a number.
    name: String,
    names: u32,
    /// Files that were uploaded.
    pub(crate) uploads: u32,
    pub(crate) jobs: u64,
    pub(crate) fuel: u64,
    /// The least that this fuel costs, in millionths of a credit.
    pub(crate) price_micro: u64,
}

/// What an attack found, in words: the host held.
pub(crate) type Held = Result<String, Broken>;

/// Fuel that jobs may burn when the case is not about it: a few milliseconds.
pub(crate) const FUEL: u64 = 20_000_000;

impl<'a> Attempt<'a> {
    pub(crate) fn new(target: &'a dyn Target, name: String) -> Self {
        Self { target, name, names: 0, uploads: 0, jobs: 0, fuel: 0, price_micro: 0 }
    }

    /// The target, for what is not counted.
    pub(crate) fn target(&self) -> &'a dyn Target {
        self.target
    }

    /// A name that no other package has.
    pub(crate) fn new_name(&mut self) -> String {
        self.names += 1;
        format!("{}-{}", self.name, self.names)
    }

    /// Uploads the bytes of a file.
    pub(crate) fn upload(&mut self, file: &[u8]) -> Result<Upload, Broken> {
        self.uploads += 1;
        let upload = self.target.publish(file)?;
        if let Upload::Published(published) = &upload {
            self.owe(Work::Load { fuel: published.fuel })?;
        }
        Ok(upload)
    }

    /// Uploads a package under a name of its own.
    pub(crate) fn publish(&mut self, package: &Package) -> Result<Upload, Broken> {
        let name = self.new_name();
        self.upload(&package.file(&name))
    }

    /// Publishes a guest that must be taken.
    pub(crate) fn open(&mut self, guest: &Guest) -> Result<Published, Broken> {
        self.open_package(&Package::of(guest))
    }

    /// Publishes a package that must be taken.
    pub(crate) fn open_package(&mut self, package: &Package) -> Result<Published, Broken> {
        match self.publish(package)? {
            Upload::Published(published) => Ok(published),
            Upload::Refused(Refusal { text, .. }) => Err(Broken(format!("refused: {text}"))),
        }
    }

    /// Uploads what must be refused in a sentence with these words.
    pub(crate) fn refused(&mut self, package: &Package, words: &str) -> Held {
        let upload = self.publish(package)?;
        is_refused(upload, words)
    }

    /// Uploads a file that must be refused in a sentence with these words.
    pub(crate) fn refused_file(&mut self, file: &[u8], words: &str) -> Held {
        let upload = self.upload(file)?;
        is_refused(upload, words)
    }

    /// Runs a job that must be taken.
    pub(crate) fn run(&mut self, job: &Job<'_>) -> Result<End, Broken> {
        match self.run_or_not(job)? {
            Ran::Ended(end) => Ok(end),
            Ran::Refused(Refusal { text, .. }) => Err(Broken(format!("refused: {text}"))),
        }
    }

    /// Runs a job that the host may refuse: under a deadline it does when it comes to it too late.
    pub(crate) fn run_or_not(&mut self, job: &Job<'_>) -> Result<Ran, Broken> {
        self.jobs += 1;
        let ran = self.target.run(job)?;
        if let Ran::Ended(end) = &ran {
            let completed = end.verdict == "completed";
            self.owe(Work::Run { fuel: end.fuel, completed })?;
            ensure(end.billed, || format!("{} without a bill", end.verdict))?;
            is_harmless(&end.detail)?;
        }
        Ok(ran)
    }

    /// Counts work that must be paid for.
    fn owe(&mut self, work: Work) -> Result<(), Broken> {
        let (Work::Load { fuel } | Work::Run { fuel, .. }) = work;
        self.fuel = self.fuel.saturating_add(fuel);
        self.price_micro = self.price_micro.saturating_add(self.target.price_micro(work)?);
        Ok(())
    }

    /// Lets the program run a package by itself, without a host whom anybody would pay: all that it prints.
    pub(crate) fn printed(&mut self, package: &Package) -> Result<Vec<u8>, Broken> {
        self.uploads += 1;
        let name = self.new_name();
        self.target.printed(&package.file(&name))
    }

    /// Runs a job of a package on its usual input, within this fuel.
    pub(crate) fn run_plain(&mut self, model: &Published, fuel: u64) -> Result<End, Broken> {
        self.run(&plain(&model.name, &[x(1.0)], fuel))
    }

    /// Runs a guest, whose job must end so.
    pub(crate) fn ends(
        &mut self,
        guest: &Guest,
        verdict: &str,
        words: &str,
    ) -> Result<End, Broken> {
        let model = self.open(guest)?;
        let end = self.run_plain(&model, FUEL)?;
        ended(&end, verdict, words)?;
        Ok(end)
    }
}

/// An ordinary job.
pub(crate) fn plain<'a>(model: &'a str, inputs: &'a [Tensor], fuel: u64) -> Job<'a> {
    Job { model, inputs, fuel, memory_bytes: None, seed: 0, deadline_ms: None }
}

/// The usual input.
pub(crate) fn x(value: f32) -> Tensor {
    floats("x", &[value])
}

/// A tensor of one dimension.
pub(crate) fn floats(name: &str, values: &[f32]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, DataType::Fp32, values.len(), bytes)
}

/// A tensor of one dimension.
pub(crate) fn words(name: &str, values: &[i64]) -> Tensor {
    let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, DataType::Int64, values.len(), bytes)
}

fn tensor(name: &str, datatype: DataType, len: usize, bytes: Vec<u8>) -> Tensor {
    // One dimension is a rank in bounds.
    let shape = Shape::new(&[len as u64]).unwrap_or_default();
    Tensor { name: name.into(), datatype, shape, bytes }
}

pub(crate) fn ensure(holds: bool, text: impl FnOnce() -> String) -> Result<(), Broken> {
    if holds { Ok(()) } else { Err(Broken(text())) }
}

/// Whether a job ended so.
pub(crate) fn ended(end: &End, verdict: &str, words: &str) -> Result<(), Broken> {
    let End { verdict: found, detail, fuel, .. } = end;
    ensure(found == verdict && detail.contains(words), || {
        format!("{found} ({detail}, fuel {fuel}), expected {verdict} ({words})")
    })
}

fn is_refused(upload: Upload, words: &str) -> Held {
    match upload {
        Upload::Published(published) => Err(Broken(format!("published as {}", published.name))),
        Upload::Refused(Refusal { text, .. }) => {
            is_harmless(&text)?;
            ensure(text.contains(words), || format!("refused, and not for '{words}': {text}"))?;
            Ok(format!("refused: {text}"))
        }
    }
}

/// Whether a sentence does nothing to a terminal, and to a log of lines.
pub(crate) fn is_harmless(text: &str) -> Result<(), Broken> {
    let control = text.chars().find(|char| is_active(*char));
    ensure(control.is_none(), || format!("{control:?} in a sentence of the host"))
}
