//! What a load takes, and what it leaves: memory twice the file, and an image of the model alone.

use fuelbox_engine::{Asset, JobLimits, Model, ModelImage, Options, Tensor};
use fuelbox_test_support::{
    host::{Host, fp32, onnx_package, shared_cache},
    onnx::{self, models},
};
use std::{collections::HashSet, fs, path::PathBuf};

/// Of linear memory while a model is loaded, by the size of its file.
const LOAD_PEAK_MAX: f64 = 2.2;
/// Of what an image takes on disk, by the size of the model's file: weights once, and what tract and
/// the SDK keep beside them.
const STORED_MAX: f64 = 1.3;
/// Linear memory that does not grow with the file: the guest itself, and the buffers of a job, which
/// are part of the image so that jobs find them in place.
const FIXED_BYTES: f64 = 4e6;

fn load(file: Vec<u8>, shapes: &[Tensor]) -> (f64, f64, f64) {
    let size = file.len() as f64;
    let model = Host::shared(Options::default()).open_onnx(file).unwrap();
    let limits = JobLimits::default();
    let prepared = model.prepare(shapes, &[], &limits, &limits).unwrap();
    let image = prepared.image();
    let peak = image.load_usage().memory_bytes_peak as f64;
    (size, peak, image.stored_bytes().unwrap() as f64 / size)
}

#[test]
fn a_load_in_the_box_takes_twice_the_file_and_stores_it_once() {
    let mlp = fp32("input", &[1, 1024], &[0.5; 1024]);
    let (size, peak, stored) = load(onnx::big_mlp(48 << 20), &[mlp]);
    assert!(peak <= LOAD_PEAK_MAX * size, "{} of the file to load", peak / size);
    assert!((0.9..STORED_MAX).contains(&stored), "{stored:.3} of the file stored");
    // Of a model of 14 MB, what does not grow with the file is a part: 2.43 times the file in all.
    let picture = fp32("image", &[1, 3, 224, 224], &[0.5; 3 * 224 * 224]);
    let (size, peak, stored) = load(onnx::mobilenet_v2(), &[picture]);
    assert!(peak - FIXED_BYTES <= LOAD_PEAK_MAX * size, "{} of the file to load", peak / size);
    assert!((0.9..STORED_MAX).contains(&stored), "{stored:.3} of the file stored");
}

/// Words of 8 bytes, of which 6 are these.
const MARKER: [u8; 6] = [0xa5, 0xb4, 0xc3, 0xd2, 0xe1, 0xf0];

#[test]
fn assets_that_the_model_ignores_leave_no_trace_in_its_image() {
    let words = (0..8192u16).flat_map(|word| [&word.to_le_bytes()[..], &MARKER].concat());
    let asset: Vec<u8> = words.collect();
    assert_eq!(asset.len(), 64 << 10);
    let family = models::FAMILIES.iter().find(|family| family.name == "tabular").unwrap();
    let onnx = (family.small)().onnx;
    let mut package = onnx_package(onnx.clone());
    package.assets.push(Asset::new("notes.bin", asset.clone()));
    let host = Host::shared(Options::default());
    let model = Model::open(&host.engine, package, &JobLimits::default(), || ()).unwrap();
    let memory = stored_memory(model.image());
    assert!(contains(&asset, &MARKER) && !contains(&memory, &MARKER));
    // What the model needs is there, eight numbers in a row: this is the memory of the load.
    let parts: HashSet<&[u8]> = onnx.windows(32).filter(|part| !part.contains(&0)).collect();
    assert!((0..memory.len() - 32).step_by(4).any(|at| parts.contains(&memory[at..at + 32])));
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The memory of an image as it lies in the cache: `image/MODEL/SHAPES/memory.img`.
fn stored_memory(image: &ModelImage) -> Vec<u8> {
    let below = |folder: PathBuf| {
        let entries = fs::read_dir(folder).unwrap();
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir())
    };
    let digest = image.digest().to_string();
    let mut entries = below(shared_cache().join("image")).flat_map(below);
    let is_image = |entry: &PathBuf| {
        // Other tests may remove entries meanwhile, not this one.
        fs::read_to_string(entry.join("meta.json")).is_ok_and(|meta| meta.contains(&digest))
    };
    let memory = fs::read(entries.find(is_image).unwrap().join("memory.img")).unwrap();
    assert_eq!(memory.len() as u64, image.len_bytes());
    memory
}
