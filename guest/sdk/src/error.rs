//! The error that tells the host what kind of failure it was. Any other error counts as
//! [`Status::Failed`].

use fuelbox_abi::Status;

/// A failure with its [`Status`]. It keeps its status through `anyhow` contexts.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{text}")]
pub struct Error {
    status: Status,
    text: String,
}

impl Error {
    /// The caller's tensors or parameters do not fit the model.
    pub fn invalid_input(text: impl Into<String>) -> Self {
        Self::new(Status::InvalidInput, text)
    }

    /// The assets are no model that this guest can read.
    pub fn invalid_model(text: impl Into<String>) -> Self {
        Self::new(Status::InvalidModel, text)
    }

    /// The model is well-formed, and asks for something that this guest does not have.
    pub fn unsupported(text: impl Into<String>) -> Self {
        Self::new(Status::Unsupported, text)
    }

    fn new(status: Status, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { status, text }
    }

    /// The status of the outermost [`Error`] in the chain.
    pub(crate) fn status_of(error: &anyhow::Error) -> Status {
        // Not `chain()`: it does not see an `Error` that serves as a context.
        error.downcast_ref::<Self>().map_or(Status::Failed, |error| error.status)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context;

    #[test]
    fn status_survives_contexts() {
        let plain = anyhow::anyhow!("disk on fire");
        assert_eq!(Error::status_of(&plain), Status::Failed);
        let typed = Err::<(), _>(Error::unsupported("operator Loop")).context("model.onnx");
        let typed = typed.expect_err("an error");
        assert_eq!(Error::status_of(&typed), Status::Unsupported);
        assert_eq!(format!("{typed:#}"), "model.onnx: operator Loop");
        let as_context = plain.context(Error::invalid_model("no weights"));
        assert_eq!(Error::status_of(&as_context), Status::InvalidModel);
    }
}
