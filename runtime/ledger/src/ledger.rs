//! The door: opens the database, starts the writer, hands works to it, and lends out readers.

use crate::{
    account::AccountId,
    book::Book,
    checkpoints::Checkpoints,
    connection,
    credits::Credits,
    error::{LedgerError, OpenError, StoreError},
    extension::Extension,
    funds::{Funds, Reservation},
    queue::{Job, Queue},
    reader::Reader,
    schema::{self, Component, LEDGER},
    transaction::Tx,
    writer::Writer,
};
use std::{
    fs::{File, TryLockError},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread::{self, JoinHandle},
};

/// Readers that stay open between uses: more than these read at once only for moments.
const READERS_MAX: usize = 8;

/// How a ledger is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The name of the SQLite VFS to use; the default one, when there is none.
    pub vfs: Option<String>,
}

/// A ledger that is open for writing. Clones are the same ledger; when the last one is dropped, what
/// waits is still done, and the database is closed.
pub struct Ledger<E: Extension = ()> {
    shared: Arc<Shared<E>>,
}

impl<E: Extension> Clone for Ledger<E> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone() }
    }
}

impl<E: Extension> std::fmt::Debug for Ledger<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ledger({})", self.shared.path.display())
    }
}

struct Shared<E: Extension> {
    path: PathBuf,
    vfs: Option<String>,
    queue: Arc<Queue<E>>,
    funds: Arc<Funds>,
    readers: Mutex<Vec<Reader>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl<E: Extension> Ledger<E> {
    /// Opens a ledger, and makes it when it is not there. Older tables are brought to this version.
    ///
    /// # Errors
    /// When it is open for writing elsewhere, when its tables are newer than this program, when it is
    /// no ledger, or when the store fails.
    pub fn open(path: impl AsRef<Path>, extension: E, options: Options) -> Result<Self, OpenError> {
        let path = path.as_ref().to_owned();
        let Options { vfs } = options;
        let lock = Lock::take(&path)?;
        let store = schema::at(&path);
        let mut connection = connection::for_writing(&path, vfs.as_deref()).map_err(&store)?;
        let own = Component { name: extension.component(), migrations: extension.migrations() };
        let components = if own.migrations.is_empty() { vec![LEDGER] } else { vec![LEDGER, own] };
        schema::migrate(&mut connection, &path, &components)?;
        let funds = Arc::new(Funds::default());
        let book = Book::new(connection, extension, funds.clone()).map_err(&store)?;
        let queue = Arc::new(Queue::new());
        let io = |source| OpenError::Io { path: path.clone(), source };
        let checkpoints = Checkpoints::start(path.clone(), vfs.clone()).map_err(io)?;
        let writer = Writer { checkpoints, book, _lock: lock };
        let handle = thread::Builder::new()
            .name("ledger".into())
            .spawn({
                let queue = queue.clone();
                move || {
                    // Whatever ends it, nobody waits for it any more.
                    let _abandoned = Abandon(&queue);
                    writer.serve(&queue);
                }
            })
            .map_err(|source| OpenError::Io { path: path.clone(), source })?;
        drop(store);
        let (readers, writer) = (Mutex::default(), Mutex::new(Some(handle)));
        Ok(Self { shared: Arc::new(Shared { path, vfs, queue, funds, readers, writer }) })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.shared.path
    }

    /// Does a piece of work on the writer's thread, and waits until it is committed.
    ///
    /// It may be run more than once: when anything beside it in its transaction goes wrong, all are
    /// undone and run again. So what it does outside of the transaction must not add up.
    ///
    /// # Errors
    /// What the work gives; or when the store fails, and then it was not done.
    pub fn write<T, X>(
        &self,
        work: impl FnMut(&mut Tx<'_, E>) -> Result<T, X> + Send + 'static,
    ) -> Result<T, X>
    where
        T: Send + 'static,
        X: From<StoreError> + Send + 'static,
    {
        if self.shared.queue.is_writer() {
            return Err(StoreError::WithinWriter.into());
        }
        let answer = Arc::new((Mutex::new(None), Condvar::new()));
        let given = answer.clone();
        self.write_then(work, move |result| {
            let (place, there) = &*given;
            *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
            there.notify_one();
        });
        let (place, there) = &*answer;
        let mut place = place.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(result) = place.take() {
                return result;
            }
            place = there.wait(place).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Ledger::write`], without waiting: `done` gets the answer, on the writer's thread, after the
    /// commit. It must be quick. Waits only when very many works wait already.
    pub fn write_then<T, X>(
        &self,
        work: impl FnMut(&mut Tx<'_, E>) -> Result<T, X> + Send + 'static,
        done: impl FnOnce(Result<T, X>) + Send + 'static,
    ) where
        T: Send + 'static,
        X: From<StoreError> + Send + 'static,
    {
        if let Err(work) = self.shared.queue.put(Box::new(Job::new(work, done))) {
            work.answer(Err(StoreError::Closed));
        }
    }

    /// Keeps money of an account for one who will debit it soon, in memory alone. No more than is
    /// there can be reserved, and nothing else debits what is.
    ///
    /// # Errors
    /// When there is no such account, or not enough in it; when the store fails to read an account
    /// that was not used lately.
    pub fn reserve(
        &self,
        account: &AccountId,
        amount: Credits,
    ) -> Result<Reservation, LedgerError> {
        let read = || self.read(|reader| reader.account(account))?;
        self.shared.funds.reserve(account, amount, read)
    }

    /// Reads, as of one moment, while others write.
    ///
    /// # Errors
    /// When the store fails to open a reader.
    pub fn read<T>(&self, read: impl FnOnce(&Reader) -> T) -> Result<T, StoreError> {
        let readers = || self.shared.readers.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = readers().pop();
        let reader = match waiting {
            Some(reader) => reader,
            None => Reader::with_vfs(&self.shared.path, self.shared.vfs.as_deref())?,
        };
        let result = reader.at_once(read)?;
        let mut readers = readers();
        if readers.len() < READERS_MAX {
            readers.push(reader);
        }
        Ok(result)
    }
}

impl<E: Extension> Drop for Shared<E> {
    fn drop(&mut self) {
        // The writer is the last to close: then the log is brought back, and removed.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.queue.close();
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(writer) = writer
            && writer.thread().id() != thread::current().id()
        {
            // It catches every panic of others; one of its own has answered whoever waited.
            let _ = writer.join();
        }
    }
}

/// Answers what is left when the writer ends.
struct Abandon<'a, E: Extension>(&'a Queue<E>);

impl<E: Extension> Drop for Abandon<'_, E> {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

/// The right to write: a lock on a file beside the database. The kernel takes it back from a process
/// that ends, however it ends.
pub(crate) struct Lock(File);

impl Lock {
    fn take(path: &Path) -> Result<Self, OpenError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".lock");
        let lock = PathBuf::from(name);
        let io = |source| OpenError::Io { path: path.to_owned(), source };
        let mut options = File::options();
        let options = options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&lock).map_err(io)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: path.to_owned(), lock }),
            Err(TryLockError::Error(source)) => Err(io(source)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it does not unlock it while a child of this process, on its way to another program,
        // has the same file. When this fails, closing it is what is left.
        let _ = self.0.unlock();
    }
}
