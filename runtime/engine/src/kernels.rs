//! Host kernels: the calls of `fuelbox_kernels`, done with the fastest instructions that this CPU has.
//!
//! A call is paid for before it is done, by a formula of its own arguments, and costs no more than one
//! call may, so that a deadline acts between calls. Steps on subnormal numbers are paid for as they turn up,
//! tile by tile: a guest that cannot pay for those of one tile gets no other. A call that would touch anything but the guest's
//! memory, or whose result would depend on the order of the work, ends the job as a trap.

use crate::{
    meter::charge,
    sandbox::{State, memory},
};
use fuelbox_kernels::{
    Call, Checked, Isa, KERNEL_CALL_FUEL, Kernel, KernelError, SUBNORMAL_FUEL, WORDS_MAX,
};
use wasmtime::{Caller, Linker};

/// The module that these imports come from.
pub(crate) const MODULE: &str = "fuelbox_kernels";

/// Of the blocks, and of what the kernels compute: in the engine profile.
pub(crate) const VERSION: u32 = 1;

// Words and elements are little-endian in a guest's memory, and are read there as this CPU's own.
const _: () = assert!(cfg!(target_endian = "little"));

/// The guest called a kernel with a block that the kernel refuses.
#[derive(Debug, thiserror::Error)]
#[error("kernel {}: {error}", kernel.name())]
pub(crate) struct Refused {
    kernel: Kernel,
    error: KernelError,
}

/// The kernels that a guest may import.
pub(crate) fn allowed_names() -> impl Iterator<Item = &'static str> {
    Kernel::ALL.into_iter().map(Kernel::name)
}

/// The type of a kernel, as text; none if there is none of this name.
pub(crate) fn type_of(name: &str) -> Option<String> {
    allowed_names().any(|allowed| allowed == name).then(|| "(i32) -> ()".into())
}

/// Offers the kernels to guests. This CPU has `isa`.
pub(crate) fn link(linker: &mut Linker<State>, isa: Isa) -> wasmtime::Result<()> {
    for kernel in Kernel::ALL {
        linker.func_wrap(
            MODULE,
            kernel.name(),
            move |mut caller: Caller<'_, State>, address: i32| -> wasmtime::Result<()> {
                call(&mut caller, kernel, address as u32 as usize, isa)
            },
        )?;
    }
    Ok(())
}

fn call(
    caller: &mut Caller<'_, State>,
    kernel: Kernel,
    address: usize,
    isa: Isa,
) -> wasmtime::Result<()> {
    let (bytes, _) = memory(caller)?;
    let read = read(bytes, kernel, address);
    let checked =
        read.as_ref().map_err(KernelError::clone).and_then(|call| call.check(bytes.len()));
    // Refused calls pay for being read.
    let work = checked.as_ref().map_or(0, Checked::fuel);
    charge(caller, KERNEL_CALL_FUEL + work)?;
    let checked = checked.map_err(|error| Refused { kernel, error })?;
    let base = memory(caller)?.0.as_mut_ptr();
    let mut paid = Ok(());
    let spend = &mut |steps: u64| {
        paid = charge(caller, steps.saturating_mul(SUBNORMAL_FUEL));
        paid.is_ok()
    };
    // SAFETY: this is the memory that the call was checked against, as nothing of the guest ran in
    // between; nobody else has it: a charge is about fuel, and runs nothing of the guest; `Engine::new` made
    // sure that the CPU has `isa`.
    unsafe { checked.run_watched(base, isa, spend) };
    paid
}

/// Reads the block at this address.
fn read(bytes: &[u8], kernel: Kernel, address: usize) -> Result<Call, KernelError> {
    let what = "parameters";
    if !address.is_multiple_of(size_of::<u32>()) {
        return Err(KernelError::Alignment { what, address });
    }
    let block = bytes.get(address..).ok_or(KernelError::Memory { what })?;
    let block = &block[..block.len().min(WORDS_MAX * size_of::<u32>())];
    // SAFETY: any four bytes are a word. None are in front: memory starts at a page.
    let (_, words, _) = unsafe { block.align_to::<u32>() };
    Call::read(kernel, words)
}
