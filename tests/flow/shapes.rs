//! Models with named dimensions: one image for each set of shapes, made once, a bounded number of them.

use fuelbox_abi::Dim;
use fuelbox_engine::{Cancel, JobLimits, Model, Options, Outcome};
use fuelbox_test_support::{
    guest::{Guest, signature},
    host::{Host, fp32},
};

/// Images of one model that stay on disk: 32 for shapes, and what it says without any.
const IMAGES_MAX: usize = 33;

fn guest(x: &[Dim<'_>]) -> Vec<u8> {
    Guest { signature: signature(x), ..Guest::default() }.wasm()
}

/// Runs a job with `size` numbers, and says whether the model was loaded for it.
fn run(model: &Model, size: u64) -> (bool, Outcome) {
    let limits = JobLimits::default();
    let inputs = [fp32("x", &[size], &vec![1.0; size as usize])];
    let prepared = model.prepare(&inputs, &[], &limits, &limits).unwrap();
    (prepared.loaded(), prepared.run(&limits, 0, &Cancel::default()).unwrap())
}

fn images(host: &Host) -> usize {
    let entries = host.engine.cache().list().unwrap();
    entries.iter().filter(|entry| entry.kind == "image").count()
}

#[test]
fn each_set_of_shapes_is_loaded_once_and_the_oldest_make_room() {
    let host = Host::fresh(Options::default());
    let wasm = guest(&[Dim::Symbol("n")]);
    let model = host.open(wasm.clone()).unwrap();
    assert!(model.signature().needs_shapes());
    assert_eq!((images(&host), model.image().len_bytes()), (1, 0), "nothing to run is kept");
    let first = run(&model, 1);
    assert!(first.0, "loaded for a new shape");
    assert_eq!(run(&model, 1), (false, first.1.clone()), "and not again");
    for size in 2..=40 {
        assert!(run(&model, size).0);
    }
    assert_eq!(images(&host), IMAGES_MAX);
    assert_eq!(run(&model, 40), (false, run(&model, 40).1), "the latest is there");
    assert_eq!(
        run(&model, 1),
        (true, first.1.clone()),
        "the oldest was gone, and comes back the same"
    );
    // Another process finds what is on disk.
    let again = host.open(wasm).unwrap();
    assert_eq!(run(&again, 1), (false, first.1));
}

#[test]
fn dimensions_that_may_be_any_share_one_image() {
    let host = Host::fresh(Options::default());
    let model = host.open(guest(&[Dim::Any])).unwrap();
    assert!(!model.signature().needs_shapes());
    for size in [0, 1, 7, 100] {
        let (loaded, outcome) = run(&model, size);
        assert_eq!((loaded, outcome.verdict.name()), (false, "completed"));
    }
    assert_eq!(images(&host), 1);
}
