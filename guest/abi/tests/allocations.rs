//! Decoding a good message takes no memory: a host can decode what a guest says without giving it a
//! way to make the host allocate.
//!
//! In a file of its own, as the allocator is the whole test program's.

use fuelbox_abi::{
    DataType, Dim, Dims, Envelope, Kind, Message, Parameter, ParameterValue, Role, Shape, Status,
    TensorSpec, TensorView, push_string_element,
};
use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    hint::black_box,
};

struct Counting;

thread_local! {
    /// Per thread, as the test runner's other threads allocate at any time.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: every call goes to the system's allocator unchanged; counting touches no memory of its own.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations<T>(of: impl FnOnce() -> T) -> u64 {
    let before = ALLOCATIONS.with(Cell::get);
    black_box(of());
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn decoding_and_walking_allocate_nothing() {
    let mut strings = Vec::new();
    push_string_element(&mut strings, b"seven").expect("short");
    let numbers = vec![1u8; 4 * 4096];
    let tensor = |name, datatype, shape: &[u64], bytes| TensorView {
        name,
        datatype,
        shape: Shape::new(shape).expect("rank"),
        bytes,
    };
    let tensors = [
        tensor("image", DataType::Fp32, &[64, 64], &numbers),
        tensor("mask", DataType::Bool, &[4 * 4096], &numbers),
        tensor("label", DataType::Bytes, &[1], &strings),
    ];
    let dims = Dims::new(&[Dim::Symbol("batch"), Dim::Fixed(64), Dim::Any]);
    let specs = [TensorSpec { role: Role::Input, name: "image", datatype: DataType::Fp32, dims }];
    let parameters = [Parameter { name: "top", value: ParameterValue::String("five") }];
    let full = Envelope {
        kind: Kind::Run,
        status: Status::Ok,
        text: "",
        tensors: &tensors,
        specs: &specs,
        parameters: &parameters,
    };
    let failure = Envelope::failure(Status::Failed, "a text that is somewhat longer than short");
    for envelope in [full, failure] {
        let bytes = envelope.encode().expect("within limits").to_vec();
        let walked = || {
            let message = Message::decode(&bytes).expect("own encoding");
            let strings = message.tensors().flat_map(|tensor| tensor.strings());
            (
                strings.count(),
                message.specs().count(),
                message.parameters().count(),
                message.text().len(),
            )
        };
        assert_eq!(allocations(walked), 0);
    }
    assert_ne!(allocations(|| vec![0u8; 100]), 0, "the allocator counts");
}
