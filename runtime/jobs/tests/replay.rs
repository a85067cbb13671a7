//! Replays: a receipt is right, or what is wrong in it is named.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_abi::Dim;
use fuelbox_engine::{Archive, Engine, OwnedParameter, OwnedValue, Tensor};
use fuelbox_jobs::{Finished, Host, JobRequest, ReplayError, Schedule, replay};
use fuelbox_receipt::{Asset, Load, Receipt};
use fuelbox_test_support::{
    guest::{self, Guest},
    host::fp32,
};
use support::{account, package, request, set_up, x};

/// A job, and all that an auditor has.
struct Case {
    receipt: Receipt,
    archive: Archive,
    inputs: Vec<Tensor>,
    schedule: Schedule,
    /// On a cache of its own, as an auditor has.
    engine: Engine,
    _cache: tempfile::TempDir,
}

impl Case {
    fn new(guest: &Guest, change: impl FnOnce(&mut JobRequest)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let host = support::host(folder.path());
        let file = package(folder.path(), "p", "1", guest);
        let publication = set_up(&host, 1 << 40, &file);
        let mut wanted = request(&publication, 1.0);
        change(&mut wanted);
        let inputs = wanted.inputs.clone();
        let done = host.run(wanted).unwrap();
        Self::of(&host, &done, &file, inputs)
    }

    fn of(host: &Host, done: &Finished, file: &[u8], inputs: Vec<Tensor>) -> Self {
        let receipt = done.receipt.verify(&host.key_ring()).unwrap().receipt;
        let cache = tempfile::tempdir().unwrap();
        Self {
            receipt,
            archive: Archive::read(file).unwrap(),
            inputs,
            schedule: host.prices().clone(),
            engine: support::engine(cache.path()),
            _cache: cache,
        }
    }

    /// The fields that a replay names.
    fn differences(&self, receipt: &Receipt) -> Vec<String> {
        let replayed = self.replay(receipt, &self.inputs, &[]);
        let names = replayed.unwrap().differences;
        names.into_iter().map(|difference| difference.field.to_string()).collect()
    }

    fn replay(
        &self,
        receipt: &Receipt,
        inputs: &[Tensor],
        parameters: &[OwnedParameter],
    ) -> Result<fuelbox_jobs::Replay, ReplayError> {
        let Self { archive, schedule, engine, .. } = self;
        replay(engine, receipt, archive, inputs, parameters, Some(schedule))
    }
}

#[test]
fn right_receipts_replay_to_equality_whatever_the_verdict() {
    let shaped = Guest { signature: guest::signature(&[Dim::Symbol("n")]), ..Guest::default() };
    let slow_load = Guest { load: "(local.set 2 (i32.const 1000)) (loop $l (local.set 2 (i32.sub (local.get 2) (i32.const 1))) (br_if $l (local.get 2)))".into(), ..shaped.clone() };
    let three = |wanted: &mut JobRequest| wanted.inputs = vec![fp32("x", &[3], &[1.0; 3])];
    for (name, guest, change) in [
        ("completed", Guest::default(), &(|_: &mut JobRequest| ()) as &dyn Fn(&mut JobRequest)),
        ("seed", Guest::default(), &|wanted| wanted.seed = u64::MAX),
        ("trap", Guest::running("(unreachable)"), &|_| ()),
        ("bounds", Guest::running("(drop (i32.load (i32.const -1)))"), &|_| ()),
        ("fuel", Guest::running("(loop $l (br $l))"), &|_| ()),
        ("output", Guest { reply: "(i64.const 7)".into(), ..Guest::default() }, &|_| ()),
        ("memory", Guest::default(), &|wanted| wanted.limits.memory_bytes = Some(65_536)),
        ("load", shaped, &three),
        ("long load", slow_load.clone(), &three),
        ("load limit", slow_load, &|wanted: &mut JobRequest| {
            three(wanted);
            wanted.limits.load_fuel = Some(500);
        }),
    ] {
        let case = Case::new(&guest, change);
        assert!(case.receipt.replayable, "{name}");
        let replayed = case.replay(&case.receipt, &case.inputs, &[]).unwrap();
        assert!(replayed.ran, "{name}");
        assert!(replayed.differences.is_empty(), "{name}: {:?}", replayed.differences);
    }
}

/// What a host could sign in place of the truth, and the field that a replay names.
#[test]
fn every_field_that_a_replay_computes_is_named_when_it_is_wrong() {
    let shaped = Guest { signature: guest::signature(&[Dim::Symbol("n")]), ..Guest::default() };
    let case = Case::new(&shaped, |_| ());
    let other = || fuelbox_digest::Digest::of(b"other");
    let lie = |change: &dyn Fn(&mut Receipt)| {
        let mut receipt = case.receipt.clone();
        change(&mut receipt);
        assert_ne!(receipt, case.receipt);
        receipt
    };
    type Lie<'a> = (&'a str, &'a dyn Fn(&mut Receipt));
    let lies: [Lie<'_>; 18] = [
        ("output", &|r| r.output = other()),
        ("package", &|r| r.package = other()),
        ("guest", &|r| r.guest = other()),
        ("image", &|r| r.image = other()),
        ("assets", &|r| r.assets.push(Asset { name: "a".into(), digest: other() })),
        ("input", &|r| r.input = other()),
        ("parameters", &|r| r.parameters = other()),
        ("limits.fuel", &|r| r.limits.fuel = r.usage.fuel - 1),
        ("limits.memory_bytes", &|r| r.limits.memory_bytes = 65_536),
        ("limits.output_bytes", &|r| r.limits.output_bytes = 1),
        ("usage.fuel", &|r| r.usage.fuel += 1),
        ("usage.memory_bytes_peak", &|r| r.usage.memory_bytes_peak += 1),
        ("verdict.name", &|r| r.verdict.name = "trap".into()),
        ("verdict.kind", &|r| r.verdict.kind = Some("failed".into())),
        ("load.fuel", &|r| {
            r.load = r.load.map(|load| Load { fuel: load.fuel + 1, ..load });
        }),
        ("load.credits_micro", &|r| {
            r.load = r.load.map(|load| Load { credits_micro: load.credits_micro + 1, ..load });
        }),
        ("price.credits_micro", &|r| r.price.credits_micro += 1),
        ("price.publisher_micro", &|r| r.price.publisher_micro -= 1),
    ];
    for (field, change) in lies {
        let found = case.differences(&lie(change));
        // A limit that would have stopped the job shows in what it would have come to.
        let expected = match field {
            "limits.fuel" | "limits.memory_bytes" | "limits.output_bytes" => "verdict.name",
            "assets" => "assets",
            other => other,
        };
        assert!(found.iter().any(|name| name.starts_with(expected)), "{field}: {found:?}");
    }
    // A schedule that is not the one on the bill, a profile that is not ours, a job that cannot be.
    let other_schedule = lie(&|r| r.price.schedule = other());
    let error = case.replay(&other_schedule, &case.inputs, &[]).unwrap_err();
    assert!(matches!(error, ReplayError::Schedule { .. }), "{error}");
    let version = case.differences(&lie(&|r| r.price.version += 1));
    assert_eq!(version, ["price.version"]);
    let other_profile = lie(&|r| r.profile = other());
    let error = case.replay(&other_profile, &case.inputs, &[]).unwrap_err();
    assert!(matches!(error, ReplayError::Profile { .. }), "{error}");
    // Whoever calls a job that completed not replayable does not get away with it.
    assert_eq!(case.differences(&lie(&|r| r.replayable = false)), ["replayable"]);
    let not_replayable = lie(&|r| {
        r.verdict.name = "cancelled".into();
        r.replayable = false;
    });
    let error = case.replay(&not_replayable, &case.inputs, &[]).unwrap_err();
    assert!(matches!(error, ReplayError::NotReplayable { .. }), "{error}");
}

#[test]
fn one_bit_of_input_parameters_or_package_is_noticed_before_anything_runs() {
    let case = Case::new(&Guest::default(), |_| ());
    let named = |inputs: &[Tensor], parameters: &[OwnedParameter]| {
        let replayed = case.replay(&case.receipt, inputs, parameters).unwrap();
        assert!(!replayed.ran);
        let names = replayed.differences.into_iter();
        names.map(|difference| difference.field.to_string()).collect::<Vec<_>>()
    };
    let mut inputs = x(1.0);
    inputs[0].bytes[0] ^= 1;
    assert_eq!(named(&inputs, &[]), ["input"]);
    let parameter = OwnedParameter { name: "p".into(), value: OwnedValue::Int(1) };
    assert_eq!(named(&x(1.0), &[parameter]), ["parameters"]);
    let folder = tempfile::tempdir().unwrap();
    let changed = Guest { outputs: guest::outputs(43.0), ..Guest::default() };
    let file = package(folder.path(), "p", "1", &changed);
    let case = Case { archive: Archive::read(&file[..]).unwrap(), ..case };
    assert_eq!(case.differences(&case.receipt), ["package", "guest"]);
}

#[test]
fn parameters_are_part_of_a_job() {
    let folder = tempfile::tempdir().unwrap();
    let host = support::host(folder.path());
    let file = package(folder.path(), "p", "1", &Guest::default());
    let publication = set_up(&host, 1 << 40, &file);
    let parameter =
        |name: &str| OwnedParameter { name: name.into(), value: OwnedValue::String("v".into()) };
    let mut wanted = JobRequest::new(account("alice"), publication.digest, x(1.0));
    wanted.parameters = vec![parameter("b"), parameter("a")];
    let done = host.run(wanted).unwrap();
    let case = Case::of(&host, &done, &file, x(1.0));
    let replayed = case.replay(&case.receipt, &x(1.0), &[parameter("a"), parameter("b")]).unwrap();
    assert!(replayed.ran && replayed.differences.is_empty(), "{:?}", replayed.differences);
}
