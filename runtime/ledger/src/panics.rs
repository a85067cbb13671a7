//! Code of others on the writer's thread: its panics become errors.

use crate::{credits::excerpt, error::StoreError};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls code of others, which must not end the writer.
pub(crate) fn guarded<T>(call: impl FnOnce() -> rusqlite::Result<T>) -> Result<T, StoreError> {
    Ok(catch(call)??)
}

/// What it gives, or its panic's words.
pub(crate) fn catch<T>(call: impl FnOnce() -> T) -> Result<T, StoreError> {
    // What the call may leave half done is thrown away by a rollback, or belongs to the caller alone.
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| {
        let text = panic.downcast_ref::<&str>().copied();
        let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        StoreError::Panicked { text: excerpt(text.unwrap_or("no words")) }
    })
}
