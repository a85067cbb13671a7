//! Sameness: every variant of fuelbox gives the same bits and the same bill.

use super::{
    environment::{Environment, ModelFiles, Variant},
    machine::Machine,
    peer::Peer,
    protocol::{Answer, Loaded},
    results::{Bill, SPEED},
};
use anyhow::{Context, Result, ensure};
use std::path::Path;

/// Kernels, with what a CPU must have for them.
const KERNELS: [(&[&str], Variant); 3] = [
    (&[], Variant { name: "portable kernels", kernels: Some("portable"), ..SPEED }),
    (&["avx2", "fma"], Variant { name: "AVX2 kernels", kernels: Some("avx2"), ..SPEED }),
    (
        &["avx512f", "avx512dq"],
        Variant { name: "AVX-512 kernels", kernels: Some("avx512"), ..SPEED },
    ),
];

const CODEGENS: [Variant; 2] = [
    Variant { name: "unoptimised code", codegen: "none", ..SPEED },
    Variant { name: "interpreter", codegen: "pulley", ..SPEED },
];

/// The variants that this machine can run, and why others are left out.
pub(super) fn all(machine: &Machine, quick: bool) -> (Vec<Variant>, Vec<String>) {
    let (mut variants, mut skipped) = (Vec::new(), Vec::new());
    for (needs, variant) in KERNELS {
        match needs.iter().find(|extension| !machine.has(extension)) {
            None => variants.push(variant),
            Some(lacks) => skipped.push(format!("{}: this CPU lacks {lacks}", variant.name)),
        }
    }
    for variant in CODEGENS {
        if quick {
            skipped.push(format!("{}: left out by --quick", variant.name));
        } else {
            variants.push(variant);
        }
    }
    (variants, skipped)
}

/// Loads and runs a model in a variant, in a process of its own, with nothing loaded before.
pub(super) fn bill(
    environment: &Environment,
    variant: Variant,
    model: &ModelFiles,
    outputs: &Path,
) -> Result<Bill> {
    environment.forget_models(variant)?;
    let mut peer = environment.variant(variant)?;
    let folder = environment.model_folder(model);
    let loaded: Loaded = peer.ask(&format!("load {}", folder.display()))?;
    if let Some(expected) = variant.kernels {
        let found = loaded.kernels.as_deref();
        ensure!(found == Some(expected), "kernels are {found:?}, '{expected}' were asked for");
    }
    answered(&mut peer, &loaded, outputs)
}

/// Runs a peer's model once.
pub(super) fn answered(peer: &mut Peer, loaded: &Loaded, outputs: &Path) -> Result<Bill> {
    let answer: Answer = peer.ask(&format!("outputs {}", outputs.display()))?;
    let bill = Some(()).and_then(|()| {
        Some(Bill {
            fuel: answer.fuel?,
            memory_bytes: answer.memory_bytes?,
            load_fuel: loaded.load_fuel?,
            load_memory_bytes: loaded.load_memory_bytes?,
            image_bytes: loaded.image_bytes?,
            image_digest: loaded.image_digest.clone()?,
            output_digest: answer.output_digest?,
        })
    });
    bill.with_context(|| format!("{} gives no bill", peer.name))
}

/// Whether a variant's bill is that of the timed one.
pub(super) fn compare(variant: &Bill, timed: &Bill) -> Result<()> {
    ensure!(variant == timed, "not the same: {variant:?}, as timed {timed:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variants_follow_the_cpu_and_what_is_left_out_is_said() {
        let names = |machine: &Machine, quick| {
            let (variants, skipped) = all(machine, quick);
            (variants.iter().map(|variant| variant.name).collect::<Vec<_>>(), skipped)
        };
        let (run, skipped) = names(&Machine::default(), false);
        assert_eq!(run, ["portable kernels", "unoptimised code", "interpreter"]);
        assert_eq!(skipped.len(), 2);
        let machine = Machine { extensions: vec!["avx2"], ..Machine::default() };
        assert_eq!(names(&machine, false).1[0], "AVX2 kernels: this CPU lacks fma");
        let machine = Machine {
            extensions: vec!["avx2", "fma", "avx512f", "avx512dq"],
            ..Machine::default()
        };
        let (run, skipped) = names(&machine, true);
        assert_eq!(run, ["portable kernels", "AVX2 kernels", "AVX-512 kernels"]);
        assert_eq!(skipped.len(), 2);
    }

    #[test]
    fn every_part_of_a_bill_counts() {
        let bill = Bill {
            fuel: 1,
            memory_bytes: 2,
            load_fuel: 3,
            load_memory_bytes: 4,
            image_bytes: 5,
            image_digest: "a".into(),
            output_digest: "b".into(),
        };
        assert!(compare(&bill, &bill).is_ok());
        for other in [
            Bill { fuel: 0, ..bill.clone() },
            Bill { load_fuel: 0, ..bill.clone() },
            Bill { memory_bytes: 0, ..bill.clone() },
            Bill { image_digest: "b".into(), ..bill.clone() },
            Bill { output_digest: "a".into(), ..bill.clone() },
        ] {
            assert!(compare(&other, &bill).is_err(), "{other:?}");
        }
    }
}
