//! Input shapes that are new: whoever brings them pays for the load.

#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod support;

use fuelbox_jobs::State;
use support::{host, package, set_up, shaped, sized};

#[test]
fn who_brings_new_shapes_pays_for_their_load_once() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication = set_up(&host, 100_000_000, &package(folder.path(), "s", "1", &shaped()));
    let first = host.run(sized(&publication, 3)).unwrap();
    let load_fuel = first.job.end.as_ref().unwrap().load_fuel.expect("a load");
    assert!(load_fuel > 400_000, "{load_fuel}");
    let receipt = first.receipt.verify(&host.key_ring()).unwrap().receipt;
    let load = receipt.load.expect("a load");
    assert_eq!(load.fuel, load_fuel);
    assert_eq!(load.credits_micro, host.prices().load(load_fuel).unwrap().micros());
    let paid = receipt.price.credits_micro + load.credits_micro;
    assert_eq!(first.job.end.unwrap().credits.micros(), paid);
    let second = host.run(sized(&publication, 3)).unwrap();
    assert_eq!(second.job.end.unwrap().load_fuel, None);
    assert_eq!(
        host.run(sized(&publication, 4)).unwrap().job.end.unwrap().load_fuel,
        Some(load_fuel)
    );
    drop(host);
    // Known after a restart, and on a cache that somebody emptied: then the load is the host's.
    std::fs::remove_dir_all(folder.path().join("cache")).unwrap();
    let host = support::host(folder.path());
    assert_eq!(host.run(sized(&publication, 3)).unwrap().job.end.unwrap().load_fuel, None);
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn shapes_that_made_room_are_paid_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication = set_up(&host, 1_000_000_000, &package(folder.path(), "s", "1", &shaped()));
    let loads = |size: usize| {
        host.run(sized(&publication, size)).unwrap().job.end.unwrap().load_fuel.is_some()
    };
    for size in 1..=32 {
        assert!(loads(size), "{size}");
    }
    assert!(!loads(1));
    assert!(loads(33)); // 2 makes room, as it does among the engine's images
    assert!(!loads(1));
    assert!(loads(2));
    drop(host);
    support::check_folder(folder.path());
}

#[test]
fn a_load_over_its_limit_is_billed_and_leaves_no_shape() {
    let folder = tempfile::tempdir().unwrap();
    let host = host(folder.path());
    let publication = set_up(&host, 100_000_000, &package(folder.path(), "s", "1", &shaped()));
    let mut wanted = sized(&publication, 3);
    wanted.limits.load_fuel = Some(1_000);
    for _ in 0..2 {
        let done = host.run(wanted.clone()).unwrap();
        assert_eq!(done.job.end.as_ref().unwrap().verdict, "out_of_fuel");
        assert_eq!(done.job.end.as_ref().unwrap().fuel, 0);
        assert_eq!(done.job.end.unwrap().load_fuel, Some(1_000));
    }
    // Somebody pays for it; then the image is there, and costs nobody anything.
    assert!(host.run(sized(&publication, 3)).unwrap().job.end.unwrap().load_fuel.is_some());
    assert_eq!(host.run(wanted).unwrap().job.state, State::Succeeded);
    drop(host);
    support::check_folder(folder.path());
}
