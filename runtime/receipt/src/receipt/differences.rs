//! What differs between two receipts, field by field: what a replay shows.

use super::{Asset, Limits, Load, Price, Receipt, Usage, Verdict};

/// A field with two values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Such as `usage.fuel` or `assets[1].digest`.
    pub field: String,
    /// The value in the receipt that was asked. Texts are in quotes; what is not there is `none`.
    pub here: String,
    /// The value in the other receipt.
    pub there: String,
}

impl Receipt {
    /// Every field that differs between this receipt and another.
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let assets = self.assets.len().max(other.assets.len());
        self.fields(assets)
            .into_iter()
            .zip(other.fields(assets))
            .filter(|((_, here), (_, there))| here != there)
            .map(|((field, here), (_, there))| Difference { field, here, there })
            .collect()
    }

    /// Every field with its value as text, so that two texts are equal when the values are. `assets` is
    /// how many of those are listed; the lists of two receipts with the same number have the same names.
    fn fields(&self, assets: usize) -> Vec<(String, String)> {
        // Taken apart without `..`: a field that is added to a receipt must be named here to compile.
        let Self {
            output,
            format,
            job,
            package,
            guest,
            image,
            assets: listed,
            input,
            parameters,
            seed,
            profile,
            limits: Limits { fuel: fuel_limit, memory_bytes, input_bytes, output_bytes, log_bytes },
            usage: Usage { fuel: fuel_used, memory_bytes_peak },
            verdict: Verdict { name: verdict_name, kind: verdict_kind },
            replayable,
            load,
            price: Price { schedule, version, credits_micro, publisher_micro },
            payer,
            publisher,
            finished_unix_ms,
        } = self;
        let mut fields = Fields(Vec::new());
        fields.plain("output", output);
        fields.quoted("format", format);
        fields.quoted("job", job);
        fields.plain("package", package);
        fields.plain("guest", guest);
        fields.plain("image", image);
        for index in 0..assets {
            let (name, digest) = match listed.get(index) {
                Some(Asset { name, digest }) => (Some(name), Some(digest)),
                None => (None, None),
            };
            fields.optional(&format!("assets[{index}].name"), name.map(|name| format!("{name:?}")));
            fields.optional(&format!("assets[{index}].digest"), digest);
        }
        fields.plain("input", input);
        fields.plain("parameters", parameters);
        fields.plain("seed", seed);
        fields.plain("profile", profile);
        fields.plain("limits.fuel", fuel_limit);
        fields.plain("limits.memory_bytes", memory_bytes);
        fields.plain("limits.input_bytes", input_bytes);
        fields.plain("limits.output_bytes", output_bytes);
        fields.plain("limits.log_bytes", log_bytes);
        fields.plain("usage.fuel", fuel_used);
        fields.plain("usage.memory_bytes_peak", memory_bytes_peak);
        fields.quoted("verdict.name", verdict_name);
        fields.optional("verdict.kind", verdict_kind.as_ref().map(|kind| format!("{kind:?}")));
        fields.plain("replayable", replayable);
        let (load_fuel, load_credits_micro) = match load {
            Some(Load { fuel, credits_micro }) => (Some(fuel), Some(credits_micro)),
            None => (None, None),
        };
        fields.optional("load.fuel", load_fuel);
        fields.optional("load.credits_micro", load_credits_micro);
        fields.plain("price.schedule", schedule);
        fields.plain("price.version", version);
        fields.plain("price.credits_micro", credits_micro);
        fields.plain("price.publisher_micro", publisher_micro);
        fields.quoted("payer", payer);
        fields.quoted("publisher", publisher);
        fields.plain("finished_unix_ms", finished_unix_ms);
        fields.0
    }
}

/// Names and values in the order of the receipt.
struct Fields(Vec<(String, String)>);

impl Fields {
    fn plain(&mut self, field: &str, value: impl std::fmt::Display) {
        self.0.push((field.into(), value.to_string()));
    }

    /// In quotes, with escapes: the text `none` is not nothing.
    fn quoted(&mut self, field: &str, text: &str) {
        self.plain(field, format!("{text:?}"));
    }

    fn optional(&mut self, field: &str, value: Option<impl std::fmt::Display>) {
        match value {
            Some(value) => self.plain(field, value),
            None => self.plain(field, "none"),
        }
    }
}
