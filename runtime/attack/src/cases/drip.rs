//! The host's connections and memory, so that others get none, by way of slowness.

use crate::{
    attempt::ensure,
    guest::Guest,
    suite::{Case, Group},
    target::Dripped,
};

pub(super) fn cases() -> Vec<Case> {
    vec![Case::new(Group::Denial, "a body that comes a byte at a time", |attempt| {
        let model = attempt.open(&Guest::default())?;
        match attempt.target().drip(&model.name)? {
            Dripped::Refused(refusal) => {
                ensure(refusal.code == "request_timeout", || {
                    format!("{} ({}), expected request_timeout", refusal.code, refusal.text)
                })?;
                Ok(format!("refused: {}", refusal.text))
            }
            Dripped::Closed => Ok("the connection was closed".into()),
        }
    })]
}
