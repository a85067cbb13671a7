//! Publishing: a package file becomes something that jobs can name.
//!
//! The package is read and checked, and who may use its name; it is loaded, and its golden cases are
//! run. What that burns is the publisher's bill, also when it fails. Then file and rows are stored: the
//! file first, so that a row never names a file that is not there.

use crate::{
    access_key::AccessKeyId,
    access_rows,
    blobs::sync_folder,
    books::HouseAccounts,
    catalogue::{Catalogue, Quote},
    fault::{HostFault, PublishError},
    job::JobId,
    limits::limits_asked,
    package_rows::{Holder, Row, check_request, holder, named},
    packages::Visibility,
    price::Schedule,
    spending::{SpendError, SpendHold, Spending},
    steps::{Step, reach},
    tables::Tables,
};
use fuelbox_digest::Digest;
use fuelbox_engine::{
    Archive, Cancel, GoldenCase, JobLimits, Manifest, Model, ModelError, OwnedParameter, Tensor,
    Verdict, output_digest, shapes_digest,
};
use fuelbox_ledger::{
    AccountId, AccountKind, Action, Credits, Ledger, LedgerError, Purpose, Reservation, Transfer,
};
use fuelbox_receipt::{PackageSignature, SignedPackage};
use std::{
    collections::{BTreeMap, HashMap},
    io::{self, Write},
    sync::Arc,
};

/// A package that somebody wants to publish.
#[derive(Clone, Debug)]
pub struct PublishRequest<'a> {
    /// Who pays for loading it, and earns by its jobs. Of the kind publisher.
    pub account: AccountId,
    /// The package file.
    pub file: &'a [u8],
    /// By a key of the account. Needed for names in a name space.
    pub signature: Option<PackageSignature>,
    /// Whether names without a name space need a signature as well.
    pub signature_required: bool,
    /// Who sees and runs it. One that was published before keeps what it has.
    pub visibility: Visibility,
    /// Most fuel of each load; the host's default when not given.
    pub load_fuel: Option<u64>,
    /// The access key that it came with: its name spaces and its spend limit hold.
    pub access_key: Option<AccessKeyId>,
}

impl<'a> PublishRequest<'a> {
    /// A public package without a signature.
    pub fn new(account: AccountId, file: &'a [u8]) -> Self {
        Self {
            account,
            file,
            signature: None,
            signature_required: false,
            visibility: Visibility::Public,
            load_fuel: None,
            access_key: None,
        }
    }
}

/// What publishing came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// The package's name in jobs and receipts.
    pub digest: Digest,
    /// Of the manifest.
    pub name: String,
    /// Of the manifest.
    pub version: String,
    /// Fuel of the load, of loads for the shapes of golden cases, and of their runs.
    pub fuel: u64,
    /// What the publisher paid.
    pub credits: Credits,
    /// Whether it was published before; then nothing was billed.
    pub repeated: bool,
}

/// What names of files begin with before they are whole.
pub(crate) const UNFINISHED: &str = ".unfinished-";

/// What it takes to publish.
pub(crate) struct Publisher<'a> {
    pub(crate) catalogue: &'a Catalogue,
    pub(crate) ledger: &'a Ledger<Tables>,
    pub(crate) house: &'a HouseAccounts,
    pub(crate) schedule: &'a Schedule,
    pub(crate) spending: &'a Arc<Spending>,
    pub(crate) now_unix_ms: u64,
}

/// What is held for the bill, until it is written.
struct Holds {
    money: Reservation,
    spend: Option<SpendHold>,
}

/// What became of a package's rows.
enum Written {
    Published,
    /// Somebody was there first.
    Held(Holder),
    /// The name is not this publisher's any more, or the key was revoked.
    Refused(PublishError),
}

/// What the guest burned so far, on the publisher's bill.
#[derive(Default)]
struct Burned {
    load_fuel: u64,
    /// The runs' price, each rounded as a job's is.
    runs_micro: u64,
    runs_fuel: u64,
}

/// What was learned on the way.
#[derive(Default)]
struct Learned {
    quotes: HashMap<Digest, Quote>,
    /// Fuel of loads by shapes, in the order in which they were used.
    shapes: Vec<(Digest, u64)>,
}

impl Publisher<'_> {
    /// Publishes a package file for an account. Loads may burn `load_fuel` each.
    pub(crate) fn publish(
        &self,
        request: &PublishRequest<'_>,
        load_fuel: u64,
    ) -> Result<Publication, PublishError> {
        let account = &request.account;
        let archive = Archive::read(request.file)?;
        let manifest = archive.manifest();
        let digest = manifest.digest();
        self.check_account(account)?;
        self.check_access_key(request, manifest)?;
        if let Some(earlier) = self.earlier(account, manifest)? {
            return Ok(earlier);
        }
        let named = named(manifest);
        self.ledger.read(|reader| check_request(reader.connection(), request, &named))??;
        // Loads once for itself and once for each golden case, at most.
        let loads = 1 + manifest.golden.len() as u64;
        let runs = u64::try_from(manifest.golden.len()).unwrap_or(u64::MAX);
        let run =
            self.schedule.run(limits_asked(manifest).fuel, limits_asked(manifest).memory_bytes)?;
        let hold = times(self.schedule.load(load_fuel)?, loads)
            .zip(times(run, runs))
            .and_then(|(load, run)| load.checked_add(run))
            .ok_or(crate::price::PriceError::Overflow { fuel: load_fuel })?;
        let spend = match request.access_key {
            Some(key) => self.spending.hold(self.ledger, key, account, hold)??,
            None => None,
        };
        let holds = Holds { money: self.ledger.reserve(account, hold)?, spend };
        let mut burned = Burned::default();
        match self.try_out(&archive, load_fuel, &mut burned) {
            Ok(learned) => {
                // Nobody who removes packages takes the file for one without a row.
                let _stays = self.catalogue.shared();
                self.store_file(&digest, request.file)?;
                reach(Step::PackageStored);
                self.commit(request, manifest, holds, &burned, &learned)
            }
            Err(PublishError::Fault(fault)) => Err(fault.into()),
            Err(refused) => {
                self.bill_failure(account, &digest, holds, &burned)?;
                Err(refused)
            }
        }
    }

    fn check_account(&self, account: &AccountId) -> Result<(), PublishError> {
        let found = self.ledger.read(|reader| reader.account(account))??;
        match found {
            None => {
                let account = account.clone();
                Err(fuelbox_ledger::Rejected::UnknownAccount { account }.into())
            }
            Some(found) if found.kind == AccountKind::Publisher => Ok(()),
            Some(found) => Err(PublishError::NoPublisher {
                account: account.to_string(),
                kind: found.kind.to_string(),
            }),
        }
    }

    /// Whether the access key is the account's, and may publish under this name.
    fn check_access_key(
        &self,
        request: &PublishRequest<'_>,
        manifest: &Manifest,
    ) -> Result<(), PublishError> {
        let Some(key) = request.access_key else {
            return Ok(());
        };
        let found = self.ledger.read(|reader| access_rows::find(reader.connection(), &key))?;
        let found = found.map_err(HostFault::from)?.map(|(row, _)| row);
        let found = found.ok_or(SpendError::UnknownKey { key })?;
        if found.account != request.account {
            let account = request.account.clone();
            return Err(SpendError::OtherAccount { key, account }.into());
        }
        if found.covers(&manifest.name) {
            Ok(())
        } else {
            Err(PublishError::KeySpaces { key, name: manifest.name.clone() })
        }
    }

    /// What has this package's name already.
    fn earlier(
        &self,
        account: &AccountId,
        manifest: &Manifest,
    ) -> Result<Option<Publication>, PublishError> {
        let Manifest { name, version, .. } = manifest;
        let found = self.ledger.read(|reader| holder(reader.connection(), name, version))?;
        let found = found.map_err(HostFault::from)?;
        let found = found.filter(|held| held.keeps_out(account));
        found.map(|held| held.answer(account, manifest)).transpose()
    }

    /// Loads the model and runs its golden cases.
    fn try_out(
        &self,
        archive: &Archive,
        load_fuel: u64,
        burned: &mut Burned,
    ) -> Result<Learned, PublishError> {
        let manifest = archive.manifest();
        let load_limits = JobLimits { fuel: load_fuel, ..JobLimits::default() };
        let engine = self.catalogue.engine();
        let model = Model::open(engine, archive.package(), &load_limits, || ())
            .map_err(|error| burned.load_failed(error))?;
        let fuel = model.image().load_usage().fuel;
        // The image may have been there already.
        if fuel > load_fuel {
            burned.load_fuel = load_fuel;
            return Err(PublishError::LoadLimit { found: fuel, allowed: load_fuel });
        }
        burned.load_fuel = fuel;
        if *model.signature() != manifest.signature {
            return Err(PublishError::Signature);
        }
        let mut learned = Learned::default();
        for case in &manifest.golden {
            let refuse = |text: String| PublishError::Golden { name: case.name.clone(), text };
            let (inputs, parameters) = read_case(archive, case).map_err(refuse)?;
            let limits = limits_asked(manifest);
            let prepared = model
                .prepare(&inputs, &parameters, &limits, &load_limits)
                .map_err(|error| burned.load_failed(error))?;
            let shapes = shapes_digest(&inputs);
            if model.signature().needs_shapes()
                && !learned.shapes.iter().any(|(known, _)| *known == shapes)
            {
                let fuel = prepared.image().load_usage().fuel.min(load_fuel);
                burned.load_fuel = burned.load_fuel.saturating_add(fuel);
                learned.shapes.push((shapes, fuel));
            }
            let outcome = prepared
                .run(&limits, case.seed, &Cancel::default())
                .map_err(|fault| HostFault::Engine(fault.into()))?;
            let usage = outcome.usage;
            burned.runs_fuel = burned.runs_fuel.saturating_add(usage.fuel);
            let price = self.schedule.run(usage.fuel, usage.memory_bytes_peak)?;
            burned.runs_micro = burned.runs_micro.saturating_add(price.micros());
            check_case(case, &outcome.verdict, &usage, engine.profile()).map_err(refuse)?;
            let quote = Quote { fuel: usage.fuel, memory_bytes: usage.memory_bytes_peak };
            learned.quotes.insert(shapes, quote);
        }
        Ok(learned)
    }

    /// The package's file, in its place and lasting.
    fn store_file(&self, digest: &Digest, file: &[u8]) -> Result<(), HostFault> {
        let path = self.catalogue.path(digest);
        let write = || -> io::Result<()> {
            let folder = path.parent().ok_or(io::ErrorKind::NotFound)?;
            let mut unfinished = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(folder)?;
            unfinished.write_all(file)?;
            unfinished.as_file().sync_all()?;
            unfinished.persist(&path).map_err(|error| error.error)?;
            sync_folder(folder)
        };
        write().map_err(|error| HostFault::Package { digest: *digest, text: error.to_string() })
    }

    fn commit(
        &self,
        request: &PublishRequest<'_>,
        manifest: &Manifest,
        holds: Holds,
        burned: &Burned,
        learned: &Learned,
    ) -> Result<Publication, PublishError> {
        let account = &request.account;
        let digest = manifest.digest();
        let credits = self.price(burned)?;
        let charge = self.charge(account, &self.transfer_name(&digest)?, credits)?;
        let transfers: Vec<_> = charge.into_iter().collect();
        let (now, Holds { money, spend }) = (self.now_unix_ms, holds);
        let row = Row {
            package: named(manifest),
            publisher: account.clone(),
            manifest: manifest.to_bytes(),
            load_fuel: burned.load_fuel,
            credits,
            now_unix_ms: now,
            visibility: request.visibility,
            signature: request.signature.clone(),
            signature_required: request.signature_required,
            quotes: learned.quotes.clone(),
            shapes: learned.shapes.clone(),
        };
        let spent_by = spend.as_ref().map(|spend| spend.key);
        let written = self.ledger.write(move |tx| -> Result<Written, PublishError> {
            // Somebody may have published it, or another one of its name, since we looked; or the key
            // was revoked.
            let connection = tx.connection();
            let SignedPackage { digest, name, version } = &row.package;
            let held = holder(connection, name, version).map_err(HostFault::from)?;
            let held = held.filter(|held| held.keeps_out(&row.publisher));
            let written = match (held, row.check(connection)) {
                (Some(held), _) if held.digest == Some(*digest) => return Ok(Written::Held(held)),
                (Some(held), _) => Written::Held(held),
                (None, Ok(())) => Written::Published,
                (None, Err(PublishError::Fault(fault))) => return Err(fault.into()),
                (None, Err(refused)) => Written::Refused(refused),
            };
            // What this one burned is paid for in any case.
            tx.apply_reserved(&money, &transfers, now)?;
            if let Some(key) = &spent_by {
                access_rows::add_spent(tx.connection(), key, credits).map_err(HostFault::from)?;
            }
            if matches!(written, Written::Published) {
                row.insert(tx).map_err(HostFault::from)?;
                reach(Step::PackageStaged);
            }
            Ok(written)
        })?;
        let is_same = |held: &Holder| held.digest == Some(digest);
        if let Some(spend) = spend
            && !matches!(&written, Written::Held(held) if is_same(held))
        {
            spend.settled(credits);
        }
        match written {
            Written::Held(held) => held.answer(account, manifest),
            Written::Refused(refused) => Err(refused),
            Written::Published => {
                reach(Step::PackageCommitted);
                let fuel = burned.load_fuel.saturating_add(burned.runs_fuel);
                let (name, version) = (manifest.name.clone(), manifest.version.clone());
                Ok(Publication { digest, name, version, fuel, credits, repeated: false })
            }
        }
    }

    /// The name of the transfer that pays for a package. One that was removed has left its own behind.
    fn transfer_name(&self, digest: &Digest) -> Result<String, PublishError> {
        let name = format!("package:{}", digest.hex());
        let id = name.parse().map_err(|error| HostFault::Books(format!("{error}")))?;
        let earlier = self.ledger.read(|reader| reader.transfer(&id))??;
        let again = || format!("again:{}:{}", &digest.hex()[..16], JobId::new());
        Ok(if earlier.is_some() { again() } else { name })
    }

    /// What a package burned that was then refused. Each attempt is paid for.
    fn bill_failure(
        &self,
        account: &AccountId,
        digest: &Digest,
        holds: Holds,
        burned: &Burned,
    ) -> Result<(), PublishError> {
        let attempt = JobId::new();
        let name = format!("refused:{}:{attempt}", &digest.hex()[..16]);
        let credits = self.price(burned)?;
        let Some(transfer) = self.charge(account, &name, credits)? else {
            return Ok(());
        };
        let (now, Holds { money, spend }) = (self.now_unix_ms, holds);
        let spent_by = spend.as_ref().map(|spend| spend.key);
        self.ledger.write(move |tx| -> Result<(), LedgerError> {
            tx.apply_reserved(&money, std::slice::from_ref(&transfer), now)?;
            if let Some(key) = &spent_by {
                access_rows::add_spent(tx.connection(), key, credits)?;
            }
            Ok(())
        })?;
        spend.into_iter().for_each(|spend| spend.settled(credits));
        Ok(())
    }

    fn price(&self, burned: &Burned) -> Result<Credits, PublishError> {
        let load = self.schedule.load(burned.load_fuel)?;
        let runs = Credits::from_micros(burned.runs_micro);
        let overflow = crate::price::PriceError::Overflow { fuel: burned.load_fuel };
        Ok(runs.and_then(|runs| load.checked_add(runs)).ok_or(overflow)?)
    }

    fn charge(
        &self,
        account: &AccountId,
        name: &str,
        amount: Credits,
    ) -> Result<Option<Transfer>, PublishError> {
        if amount == Credits::ZERO {
            return Ok(None);
        }
        let id = name.parse().map_err(|error| HostFault::Books(format!("{error}")))?;
        let (debit, credit) = (account.clone(), self.house.revenue.clone());
        let action = Action::Direct { debit, credit, amount };
        Ok(Some(Transfer { id, purpose: Purpose::Fee, action }))
    }
}

impl Burned {
    fn load_failed(&mut self, error: ModelError) -> PublishError {
        if let ModelError::Load(outcome) = &error {
            self.load_fuel = self.load_fuel.saturating_add(outcome.usage.fuel);
        }
        error.into()
    }
}

fn times(credits: Credits, count: u64) -> Option<Credits> {
    credits.micros().checked_mul(count).and_then(Credits::from_micros)
}

/// The request of a golden case.
fn read_case(
    archive: &Archive,
    case: &GoldenCase,
) -> Result<(Vec<Tensor>, Vec<OwnedParameter>), String> {
    let message = fuelbox_abi::Message::decode(archive.part(&case.input));
    let message = message.map_err(|error| format!("its input: {error}"))?;
    let tensors = message.tensors().map(Tensor::from).collect();
    let parameters = message.parameters().map(OwnedParameter::from).collect();
    Ok((tensors, parameters))
}

/// Whether a case came out as its package says. Under another profile fuel may differ, outputs may
/// not.
fn check_case(
    case: &GoldenCase,
    verdict: &Verdict,
    usage: &fuelbox_engine::Usage,
    profile: Digest,
) -> Result<(), String> {
    let Verdict::Completed { outputs, .. } = verdict else {
        let detail = verdict.detail().unwrap_or_default();
        return Err(format!("{}: {detail}", verdict.name()));
    };
    let differences: BTreeMap<_, _> = [
        ("outputs", output_digest(outputs).to_string(), case.output_digest.to_string(), true),
        ("fuel", usage.fuel.to_string(), case.fuel.to_string(), false),
        ("memory", usage.memory_bytes_peak.to_string(), case.memory_bytes_peak.to_string(), false),
    ]
    .into_iter()
    .filter(|(_, found, expected, always)| {
        found != expected && (*always || case.engine_profile == profile)
    })
    .map(|(what, found, expected, _)| {
        (what, format!("{what} {found}, the package says {expected}"))
    })
    .collect();
    if differences.is_empty() {
        Ok(())
    } else {
        Err(differences.into_values().collect::<Vec<_>>().join("; "))
    }
}
