//! The binary as its users run it: what it prints where, and how it ends.

use fuelbox_test_support::{guest::Guest, host::shared_cache, onnx};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// The top of the tree.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// `fuelbox` with the cache that tests share.
pub(crate) fn fuelbox(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fuelbox"));
    command.args(arguments.split_whitespace()).current_dir(root());
    command.env("FUELBOX_CACHE", shared_cache()).env_remove("RUST_BACKTRACE");
    command
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs it, expects this exit code, and gives stdout and stderr.
pub(crate) fn check(command: &mut Command, code: i32) -> (String, String) {
    let output = command.output().unwrap();
    let (stdout, stderr) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(code), "{command:?}\n{stdout}\n{stderr}");
    (stdout, stderr)
}

pub(crate) fn json(command: &mut Command, code: i32) -> Value {
    serde_json::from_str(&check(command, code).0).unwrap()
}

/// A folder with a tiny guest as a module, and packed.
fn tiny() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (wasm, package) = (folder.path().join("tiny.wasm"), folder.path().join("tiny.fbx"));
    fs::write(&wasm, Guest::default().wasm()).unwrap();
    let mut pack = fuelbox("pack --guest");
    check(pack.arg(&wasm).arg("-o").arg(&package), 0);
    (folder, package)
}

const DIGITS: &str = "run examples/digits/digits.onnx --input examples/digits/seven.npy";

#[test]
fn the_readmes_first_command_prints_the_answer_and_the_bill() {
    let (stdout, stderr) = check(&mut fuelbox(DIGITS), 0);
    for expected in
        ["seven", "0.98", "completed", "fuel", "to load", "to run", "memory peak", "wall time"]
    {
        assert!(stdout.contains(expected), "{expected} is missing in\n{stdout}");
    }
    assert!(!stderr.contains('\x1b'), "no terminal, no control sequences: {stderr}");
}

#[test]
fn json_is_one_object_with_the_documented_fields() {
    let answer = json(&mut fuelbox(&format!("{DIGITS} --json --repeat 3")), 0);
    let fields: Vec<_> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(
        fields,
        [
            "engine_profile",
            "fuel",
            "log",
            "memory_bytes_peak",
            "output_digest",
            "outputs",
            "runs",
            "verdict",
            "wall_us"
        ]
    );
    assert_eq!(answer["verdict"], "completed");
    let output = &answer["outputs"][0];
    assert_eq!((&output["name"], &output["datatype"]), (&"probabilities".into(), &"FP32".into()));
    assert_eq!(output["shape"], serde_json::json!([1, 10]));
    assert_eq!(output["data"].as_array().unwrap().len(), 10);
    assert!(answer["output_digest"].as_str().unwrap().starts_with("sha256:"));
    let fuel = &answer["fuel"]["run"];
    assert!(fuel.as_u64().unwrap() > 0 && answer["fuel"]["load"].as_u64().unwrap() > 0);
    let runs = answer["runs"].as_array().unwrap();
    assert_eq!(runs.len(), 3);
    assert!(runs.iter().all(|run| run["fuel"] == *fuel && run["wall_us"].is_u64()));
    assert!(answer["wall_us"]["load"].is_u64() && answer["wall_us"]["run"].is_u64());
    // What is cached and what is not makes no difference but in time.
    let again = json(&mut fuelbox(&format!("{DIGITS} --json")), 0);
    assert_eq!(again["fuel"], answer["fuel"]);
    assert_eq!(again["output_digest"], answer["output_digest"]);
}

#[test]
fn verdicts_have_exit_codes_of_their_own() {
    let ends = |guest: Guest, more: &str| {
        let folder = tempfile::tempdir().unwrap();
        let (wasm, package) = (folder.path().join("g.wasm"), folder.path().join("g.fbx"));
        // Packed while it is well-behaved, so that packing succeeds: the guest looks at its input.
        fs::write(&wasm, guest.wasm()).unwrap();
        check(fuelbox("pack --guest").arg(&wasm).arg("-o").arg(&package), 0);
        let input = folder.path().join("x.json");
        fs::write(&input, r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[-1]}]}"#)
            .unwrap();
        let mut command = fuelbox(&format!("run --json {more}"));
        let output = command.arg(&package).arg("--input").arg(&input).output().unwrap();
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code().unwrap(), answer)
    };
    // Misbehaves when its input is negative.
    let guest = |bad: &str| {
        Guest::running(&format!(
            "(if (f32.lt (f32.load (i32.add (local.get 0) (i32.const 64))) (f32.const 0)) (then {bad}))"
        ))
    };
    for (bad, more, code, verdict, fuel) in [
        ("", "", 0, "completed", None),
        ("unreachable", "", 4, "trap", None),
        ("(drop (i32.load (i32.const -1)))", "--fuel-limit 5k", 4, "trap", Some(5000)),
        ("(return (i64.const 1))", "", 4, "bad_output", None),
        ("(loop (br 0))", "--fuel-limit 1M", 5, "out_of_fuel", Some(1_000_000)),
        ("(loop (br 0))", "--deadline 50ms", 5, "cancelled", None),
    ] {
        let (found, answer) = ends(guest(bad), more);
        assert_eq!((found, &answer["verdict"]), (code, &verdict.into()), "{bad}: {answer}");
        assert_eq!(answer.get("detail").is_some(), code != 0, "{answer}");
        if let Some(fuel) = fuel {
            assert_eq!(answer["fuel"]["run"], fuel);
        }
    }
}

#[test]
fn bad_input_is_one_sentence_and_an_exit_code() {
    let (folder, package) = tiny();
    let files = std::cell::Cell::new(0);
    let path = |name: &str, bytes: &[u8]| {
        files.set(files.get() + 1);
        let path = folder.path().join(format!("{}-{name}", files.get()));
        fs::write(&path, bytes).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let package = package.to_str().unwrap();
    let request = |name: &str, datatype: &str, shape: &str, data: &str| {
        format!(
            r#"{{"inputs":[{{"name":"{name}","shape":{shape},"datatype":"{datatype}","data":{data}}}]}}"#
        )
    };
    let run = |file: &str, json: String| {
        format!("run {file} --input {}", path("in.json", json.as_bytes()))
    };
    for (arguments, code, expected) in [
        ("run".into(), 2, "required"),
        ("run nowhere.onnx".into(), 3, "nowhere.onnx"),
        (format!("run {package}"), 3, "input 'x': missing, the model takes 'x'"),
        (
            run(package, request("z", "FP32", "[1]", "[1]")),
            3,
            "input 'z': no such input, the model takes 'x'",
        ),
        (
            run(package, request("x", "INT8", "[1]", "[1]")),
            3,
            "input 'x': datatype INT8, the model takes FP32",
        ),
        (
            run(package, request("x", "FP32", "[2]", "[1,2]")),
            3,
            "input 'x': shape [2], the model takes [1]",
        ),
        (run(package, request("x", "FP32", "[1]", "[1,2]")), 3, "input 'x'"),
        (run(package, request("x", "FP32", "[4294967296,4294967296,2]", "[1]")), 3, "overflow"),
        (run(package, "{".into()), 3, "in.json"),
        (
            format!("run {package} --random 1 --memory-limit 65536"),
            5,
            "196608 bytes, the limit is 65536",
        ),
        (format!("run {package} --random 1 --memory-limit 1X"), 2, "1X"),
        (format!("run {}", path("bad.fbx", b"PK\x03\x04")), 3, "not a package file"),
        (
            format!("run {} --random 1", path("bad.onnx", &onnx::unknown_operators())),
            4,
            onnx::UNKNOWN_OPERATORS[1],
        ),
        (
            format!("run {} --random 1", path("ext.onnx", &onnx::external_data())),
            4,
            onnx::EXTERNAL_FILE,
        ),
        (
            format!("inspect {}", path("cut.fbx", &fs::read(package).unwrap()[..200])),
            3,
            "damaged or cut",
        ),
        (
            format!(
                "pack --guest {} -o {}/o.fbx",
                path("w.wasm", b"\0asm"),
                folder.path().display()
            ),
            3,
            "module: ",
        ),
        ("run /dev/zero".into(), 3, "/dev/zero"),
    ] {
        let (stdout, stderr) = check(&mut fuelbox(&arguments), code);
        assert!(stderr.contains(expected), "{arguments}\n{stderr}\ndoes not contain\n{expected}");
        // A load that failed has a bill, like any job.
        assert_eq!(stdout.is_empty(), code != 4, "{arguments}\n{stdout}");
        // One line of error; the only other ones say that a guest is compiled, on a cold cache, here or by
        // another test.
        let compiled = ["compiling the guest", "waiting for another process that compiles"];
        let is_error = |line: &&str| !compiled.iter().any(|start| line.starts_with(start));
        let errors = stderr.lines().filter(is_error);
        assert!(code == 2 || errors.count() == 1, "{arguments}\n{stderr}");
    }
    assert!(!folder.path().join("o.fbx").exists(), "a package that was refused is not written");
}

#[test]
fn a_killed_run_leaves_nothing_that_a_later_one_would_trust() {
    let cache = tempfile::tempdir().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m.onnx");
    fs::write(&model, onnx::mlp(&[16, 8, 4])).unwrap();
    let run = || {
        let mut command = fuelbox("run --random 1 --json");
        command.arg(&model).env("FUELBOX_CACHE", cache.path());
        command
    };
    // The stock guest's code from the shared cache would not open here: the seal has another key.
    // So each of these is killed while it compiles, loads or writes, at a time of its own.
    for millis in [5, 40, 300] {
        let mut child = run()
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(std::time::Duration::from_millis(millis)); // the moment of the kill, not a wait for anything
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let expected = json(fuelbox("run --random 1 --json").arg(&model), 0);
    let answer = json(&mut run(), 0);
    assert_eq!(answer["output_digest"], expected["output_digest"]);
    // And now with entries that are damaged: code, initial image and model image are made anew.
    for file in ["artifact.cwasm", "initial.img", "memory.img"] {
        let found = find(cache.path(), file);
        assert!(!found.is_empty(), "{file}");
        for path in found {
            let mut bytes = fs::read(&path).unwrap();
            bytes.iter_mut().next_back().into_iter().for_each(|byte| *byte ^= 1);
            fs::write(&path, bytes).unwrap();
        }
    }
    let answer = json(&mut run(), 0);
    assert_eq!(answer["output_digest"], expected["output_digest"]);
}

fn find(folder: &Path, name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(find(&path, name));
        } else if path.file_name().is_some_and(|file| file == name) {
            found.push(path);
        }
    }
    found
}

#[test]
fn doctor_cache_completions_and_man_answer() {
    let (doctor, _) = check(&mut fuelbox("doctor"), 0);
    assert!(doctor.contains("sha256:"), "{doctor}");
    assert!(doctor.contains("  compile worker  compiled a guest in "), "{doctor}");
    let (list, _) = check(&mut fuelbox("cache list"), 0);
    assert!(!list.is_empty());
    let (completions, _) = check(&mut fuelbox("completions bash"), 0);
    assert!(completions.contains("fuelbox"));
    let (man, _) = check(&mut fuelbox("man"), 0);
    assert!(man.contains(".TH fuelbox"), "{man}");
}

#[test]
fn clearing_the_cache_removes_everything_in_it() {
    let (folder, package) = tiny();
    let cache = folder.path().join("cache");
    let with_cache = |arguments: &str| {
        let mut command = fuelbox(arguments);
        command.env("FUELBOX_CACHE", &cache);
        command
    };
    check(with_cache("run --random 1").arg(&package), 0);
    assert!(!find(&cache, "seal").is_empty());
    check(&mut with_cache("cache clear"), 0);
    assert!(find(&cache, "seal").is_empty());
    check(with_cache("run --random 1").arg(&package), 0);
}
