//! Package files that are damaged, cut, swollen or dressed up: refused in one sentence, whatever the
//! bytes.

use fuelbox_abi::{DataType, Envelope, Kind};
use fuelbox_engine::{
    Archive, Digest, GoldenCase, Manifest, NamedPart, OwnedDim, PartRef, Signature,
    TensorSignature, write_archive,
};
use fuelbox_test_support::guest::{self, Guest};
use std::io::Write;

const PREFIX_BYTES: usize = 26;

fn parts() -> [Vec<u8>; 3] {
    let request = guest::encode(&Envelope::new(Kind::Run));
    [Guest::default().wasm(), b"zero\none\n".to_vec(), request]
}

fn manifest() -> Manifest {
    let [wasm, labels, request] = parts();
    let tensor = |name: &str| TensorSignature {
        name: name.into(),
        datatype: DataType::Fp32,
        shape: Some(vec![OwnedDim::Fixed(1), OwnedDim::Symbol("n".into()), OwnedDim::Any(())]),
    };
    let signature = Signature { inputs: vec![tensor("x")], outputs: vec![tensor("y")] };
    let mut manifest = Manifest::new("tiny".into(), "1.2.3".into(), PartRef::of(&wasm), signature);
    manifest.assets = serde_json::from_value(serde_json::json!([
        { "name": "labels.txt", "part": PartRef::of(&labels) }
    ]))
    .unwrap();
    manifest.labels = Some("labels.txt".into());
    manifest.golden = vec![GoldenCase {
        name: "first".into(),
        input: PartRef::of(&request),
        seed: 0,
        output_digest: Digest::of(b""),
        fuel: 4,
        memory_bytes_peak: 3 << 16,
        engine_profile: Digest::of(b""),
    }];
    manifest
}

fn package() -> Vec<u8> {
    let parts = parts();
    let parts: Vec<_> = parts.iter().map(Vec::as_slice).collect();
    let mut file = Vec::new();
    write_archive(&manifest(), &parts, &mut file).unwrap();
    file
}

fn refusal(file: &[u8]) -> String {
    let message = Archive::read(file).map(drop).expect_err("refused").to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

fn check(file: &[u8], expected: &str) {
    let found = refusal(file);
    assert!(found.contains(expected), "{found}\ndoes not contain\n{expected}");
}

/// A package with these tar entries: path, type, bytes, size in the header.
fn packed(entries: &[(&str, tar::EntryType, &[u8], u64)]) -> Vec<u8> {
    let mut tar = Vec::new();
    for (path, kind, bytes, size) in entries {
        let mut header = tar::Header::new_ustar();
        // By hand: the library refuses the paths that are tried here.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_size(*size);
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        header.set_cksum();
        tar.extend_from_slice(header.as_bytes());
        tar.extend_from_slice(bytes);
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    tar.extend([0; 1024]);
    compressed(&tar)
}

fn compressed(tar: &[u8]) -> Vec<u8> {
    let mut file = package()[..PREFIX_BYTES].to_vec();
    file.extend(zstd::encode_all(tar, 3).unwrap());
    file
}

fn regular<'a>(path: &'a str, bytes: &'a [u8]) -> (&'a str, tar::EntryType, &'a [u8], u64) {
    (path, tar::EntryType::Regular, bytes, bytes.len() as u64)
}

#[test]
fn what_was_written_is_read() {
    let archive = Archive::read(&package()[..]).unwrap();
    assert_eq!(archive.manifest(), &manifest());
    assert_eq!(archive.part(&manifest().golden[0].input), &parts()[2][..]);
    assert_eq!(archive.package().assets[0].bytes[..], parts()[1]);
    assert_eq!(package(), package(), "the same bytes every time");
}

#[test]
fn other_files_are_told_apart() {
    check(b"", "package: not a package file: it starts with '', expected 'fuelbox package 1'");
    check(b"\x89PNG\r\n", "not a package file: it starts with '\u{fffd}PNG\\r '");
    let later = [&package()[..PREFIX_BYTES - 2], b"2\n"].concat();
    check(&later, "format version '2', allowed is 1");
    let manifest = String::from_utf8(manifest().to_bytes()).unwrap();
    let later = manifest.replace("fuelbox-package/1", "fuelbox-package/2");
    check(
        &packed(&[regular("manifest.json", later.as_bytes())]),
        "format 'fuelbox-package/2', allowed is",
    );
}

#[test]
fn every_cut_is_noticed() {
    let file = package();
    for len in 0..file.len() {
        refusal(&file[..len]);
    }
}

#[test]
fn every_flipped_bit_is_noticed_or_changes_nothing() {
    // A few bits of a zstd frame mean nothing; what is read is always what was packed.
    let good = Archive::read(&package()[..]).unwrap();
    let file = package();
    for bit in 0..file.len() * 8 {
        let mut bad = file.clone();
        bad[bit / 8] ^= 1 << (bit % 8);
        if let Ok(archive) = Archive::read(&bad[..]) {
            assert_eq!(archive.manifest(), good.manifest(), "bit {bit}");
        }
    }
}

#[test]
fn paths_and_types_cannot_trick_the_reader() {
    let manifest = manifest().to_bytes();
    let first = regular("manifest.json", &manifest);
    let link = ("parts/x", tar::EntryType::Symlink, &b""[..], 0);
    check(&packed(&[first, link]), "entry 'parts/x' is no regular file");
    for path in
        ["../../etc/passwd", "/etc/passwd", "parts/../x", "parts/", "manifest.json", "x\x1b"]
    {
        check(&packed(&[first, regular(path, b"x")]), "is not named by the manifest");
    }
    check(&packed(&[regular("../manifest.json", &manifest)]), "first entry '../manifest.json'");
    check(&packed(&[]), "first entry ''");
    check(&packed(&[first]), "is missing");
    let long = ("././@LongLink", tar::EntryType::GNULongName, &b"parts/x"[..], 7);
    check(&packed(&[long, first]), "first entry '././@LongLink'");
}

#[test]
fn parts_are_what_the_manifest_says() {
    let manifest = manifest();
    let bytes = manifest.to_bytes();
    let first = regular("manifest.json", &bytes);
    let labels = &parts()[1];
    let path = format!("parts/{}", manifest.assets[0].part.digest.hex());
    let other = vec![b'x'; labels.len()];
    check(&packed(&[first, regular(&path, &other)]), "has content of digest");
    check(&packed(&[first, regular(&path, b"short")]), "of 5 bytes, the manifest says 9");
    check(&packed(&[first, regular(&path, labels), regular(&path, labels)]), "is there twice");
    let cut = (path.as_str(), tar::EntryType::Regular, &labels[..], labels.len() as u64);
    let mut tar = zstd::decode_all(&packed(&[first, cut])[PREFIX_BYTES..]).unwrap();
    tar.truncate(tar.len() - 1024 - 510);
    check(&compressed(&tar), "damaged or cut short");
}

#[test]
fn manifests_have_one_form_and_sane_content() {
    let try_json = |json: &str| refusal(&packed(&[regular("manifest.json", json.as_bytes())]));
    let good = String::from_utf8(manifest().to_bytes()).unwrap();
    for (from, to, expected) in [
        ("\"abi\":1", "\"abi\": 1", "not in canonical form"),
        ("\"abi\":1", "\"abi\":2", "guest ABI 2, allowed is 1"),
        ("\"abi\":1", "\"abi\":-1", "manifest: "),
        ("\"abi\":1", "\"abi\":1,\"extra\":1", "unknown field `extra`"),
        ("\"abi\":1,", "", "missing field `abi`"),
        (
            "\"name\":\"tiny\"",
            "\"name\":\"../tiny\"",
            "name '../tiny': allowed are 1 to 128 characters",
        ),
        ("\"name\":\"tiny\"", "\"name\":\"\"", "name '': allowed are"),
        (
            "\"labels\":\"labels.txt\"",
            "\"labels\":\"other.txt\"",
            "labels 'other.txt': no such asset",
        ),
        (
            "\"size_bytes\":9",
            "\"size_bytes\":9999999999",
            "of 9999999999 bytes, allowed are 2147483648",
        ),
        ("\"digest\":\"sha256:", "\"digest\":\"sha255:", "expected 'sha256:' and 64"),
    ] {
        assert!(good.contains(from), "{from}");
        let found = try_json(&good.replacen(from, to, 1));
        assert!(found.contains(expected), "{found}\ndoes not contain\n{expected}");
    }
    // Three at once, beside what is right; then more than anybody would read.
    let three = good
        .replacen("\"abi\":1", "\"abi\":2", 1)
        .replacen("\"labels\":\"labels.txt\"", "\"labels\":\"other.txt\"", 1)
        .replacen("\"size_bytes\":9", "\"size_bytes\":9999999999", 1);
    let digest = manifest().assets[0].part.digest;
    assert_eq!(
        try_json(&three),
        format!(
            "package: manifest: 3 things are not allowed: guest ABI 2, allowed is 1; labels \
             'other.txt': no such asset; part {digest} of 9999999999 bytes, allowed are 2147483648"
        )
    );
    let nameless = |count: usize| {
        let mut manifest = manifest();
        manifest
            .assets
            .extend(vec![NamedPart { name: "/".into(), ..manifest.assets[0].clone() }; count]);
        String::from_utf8(manifest.to_bytes()).unwrap()
    };
    let (sixteen, more) = (try_json(&nameless(16)), try_json(&nameless(17)));
    assert!(
        sixteen.starts_with("package: manifest: 16 things are not allowed: asset '/': "),
        "{sixteen}"
    );
    assert!(sixteen.ends_with("not starting with a dot"), "{sixteen}");
    assert!(
        more.starts_with("package: manifest: 17 things are not allowed: asset '/': "),
        "{more}"
    );
    assert!(more.ends_with("not starting with a dot; and 1 more"), "{more}");
    assert!(try_json("{").contains("EOF"));
    assert!(try_json(&"[".repeat(100_000)).contains("manifest: "));
}

#[test]
fn bombs_do_not_go_off() {
    use fuelbox_engine::constants::ZSTD_WINDOW_LOG_MAX;
    // A manifest that claims to be huge, and one that is.
    let huge = ("manifest.json", tar::EntryType::Regular, &b""[..], 1 << 40);
    check(&packed(&[huge]), "manifest of 1099511627776 bytes, allowed are 1048576");
    // 3 GiB of zeros in 100 KB, where a part should be: refused by its size before it is read.
    let manifest = manifest();
    let bytes = manifest.to_bytes();
    let path = format!("parts/{}", manifest.assets[0].part.digest.hex());
    let bomb = (path.as_str(), tar::EntryType::Regular, &b""[..], 3 << 30);
    check(
        &packed(&[regular("manifest.json", &bytes), bomb]),
        "of 3221225472 bytes, the manifest says 9",
    );
    // A frame that wants a window of more than 128 MiB.
    let tar = zstd::decode_all(&package()[PREFIX_BYTES..]).unwrap();
    let of_window = |log: u32| {
        let mut encoder = zstd::Encoder::new(package()[..PREFIX_BYTES].to_vec(), 3).unwrap();
        encoder.window_log(log).unwrap();
        encoder.long_distance_matching(true).unwrap();
        encoder.write_all(&tar).unwrap();
        encoder.finish().unwrap()
    };
    let archive = Archive::read(&of_window(ZSTD_WINDOW_LOG_MAX)[..]).unwrap();
    assert_eq!(archive.manifest(), &manifest);
    check(&of_window(ZSTD_WINDOW_LOG_MAX + 1), "Frame requires too much memory for decoding");
}

#[test]
fn data_after_the_end_is_refused() {
    let tar = zstd::decode_all(&package()[PREFIX_BYTES..]).unwrap();
    let mut file = package()[..PREFIX_BYTES].to_vec();
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).unwrap();
    encoder.write_all(&tar).unwrap();
    for _ in 0..64 {
        encoder.write_all(&[0; 1 << 20]).unwrap();
    }
    file.extend(encoder.finish().unwrap());
    check(&file, "damaged or cut short: data after the last part");
}

#[test]
fn sizes_are_bounded_at_the_limit_and_not_before() {
    use fuelbox_engine::constants::{
        MANIFEST_BYTES_MAX, NAME_BYTES_MAX, PART_BYTES_MAX, PARTS_MAX,
    };
    // One that is within the limits misses its parts; one that is not is refused before that.
    let try_manifest =
        |manifest: &Manifest| refusal(&packed(&[regular("manifest.json", &manifest.to_bytes())]));
    let missing = |manifest: &Manifest| {
        let found = try_manifest(manifest);
        assert!(found.contains("is missing"), "{found}");
    };
    let over = |manifest: &Manifest, expected: &str| {
        let found = try_manifest(manifest);
        assert!(found.contains(expected), "{found}\ndoes not contain\n{expected}");
    };
    // Bytes of the manifest.
    let padded = |bytes: usize| {
        let mut manifest = manifest();
        manifest.licence = String::new();
        manifest.licence = "x".repeat(bytes - manifest.to_bytes().len());
        assert_eq!(manifest.to_bytes().len(), bytes);
        manifest
    };
    missing(&padded(MANIFEST_BYTES_MAX as usize));
    over(
        &padded(MANIFEST_BYTES_MAX as usize + 1),
        "manifest of 1048577 bytes, allowed are 1048576",
    );
    // Parts: guest, labels and golden case are there already.
    let parts = |count: usize| {
        let mut manifest = manifest();
        for number in 0..count - 3 {
            let mut asset = manifest.assets[0].clone();
            asset.name = format!("asset-{number}");
            asset.part = PartRef::of(asset.name.as_bytes());
            manifest.assets.push(asset);
        }
        manifest
    };
    missing(&parts(PARTS_MAX));
    over(&parts(PARTS_MAX + 1), "257 parts, allowed are 256");
    // Bytes of a part, as the manifest says.
    let sized = |bytes: u64| {
        let mut manifest = manifest();
        manifest.assets[0].part.size_bytes = bytes;
        manifest
    };
    missing(&sized(PART_BYTES_MAX));
    over(&sized(PART_BYTES_MAX + 1), "of 2147483649 bytes, allowed are 2147483648");
    // Characters of a name.
    let name = |chars: usize| "n".repeat(chars);
    let of_package = |chars| Manifest { name: name(chars), ..manifest() };
    let of_asset = |chars| {
        let mut manifest = Manifest { labels: None, ..manifest() };
        manifest.assets[0].name = name(chars);
        manifest
    };
    let of_golden_case = |chars| {
        let mut manifest = manifest();
        manifest.golden[0].name = name(chars);
        manifest
    };
    let named: [(&str, &dyn Fn(usize) -> Manifest); 3] =
        [("name", &of_package), ("asset", &of_asset), ("golden case", &of_golden_case)];
    for (what, named) in named {
        missing(&named(NAME_BYTES_MAX));
        let expected = format!("{what} '{}…': allowed are 1 to 128 characters", name(80));
        over(&named(NAME_BYTES_MAX + 1), &expected);
    }
}
