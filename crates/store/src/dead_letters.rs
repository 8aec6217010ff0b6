//! Dead letters: messages that killed their actor too often, kept for a person to look at.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use troupe_types::{EntityId, Timestamp, Uuid};

use crate::error::{ReadError, WriteError};

/// Largest error text that is kept, in bytes; longer ones are cut.
pub const DEAD_LETTER_ERROR_BYTES_MAX: usize = 4 * 1024;
/// Largest message that is kept, in bytes.
pub const DEAD_LETTER_BYTES_MAX: usize = 512 * 1024;

/// A message that was taken out of an entity's queue for good.
#[derive(Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Given by the writer; a UUIDv7, so letters sort by age.
    pub id: Uuid,
    /// For whom the message was.
    pub entity: EntityId,
    /// The message, encoded, at most [`DEAD_LETTER_BYTES_MAX`].
    pub message: Bytes,
    /// What went wrong the last time.
    pub error: String,
    /// How often it was tried.
    pub strikes: u32,
    /// When it was given up.
    pub at: Timestamp,
}

impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("id", &self.id)
            .field("entity", &self.entity)
            .field("strikes", &self.strikes)
            .field("at", &self.at)
            .finish_non_exhaustive()
    }
}

/// Messages given up.
#[async_trait]
pub trait DeadLetters: fmt::Debug + Send + Sync + 'static {
    /// Keeps a letter; the same id again changes nothing.
    ///
    /// # Errors
    /// See [`WriteError`].
    async fn put(&self, letter: DeadLetter) -> Result<(), WriteError>;

    /// The first `limit` letters with ids above `after`, oldest first.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn list(&self, after: Option<Uuid>, limit: usize) -> Result<Vec<DeadLetter>, ReadError>;

    /// One letter.
    ///
    /// # Errors
    /// See [`ReadError`].
    async fn get(&self, id: Uuid) -> Result<Option<DeadLetter>, ReadError>;

    /// Throws a letter away; one that is gone is no error.
    ///
    /// # Errors
    /// See [`WriteError`].
    async fn remove(&self, id: Uuid) -> Result<(), WriteError>;
}

/// Cuts the error text and checks the message's size; for implementations.
///
/// # Errors
/// The message is larger than [`DEAD_LETTER_BYTES_MAX`].
pub fn fit(mut letter: DeadLetter) -> Result<DeadLetter, WriteError> {
    let bytes = letter.message.len();
    if bytes > DEAD_LETTER_BYTES_MAX {
        let max = DEAD_LETTER_BYTES_MAX;
        return Err(WriteError::Invalid(crate::InvalidWrite::TooLarge { bytes, max }));
    }
    let end = letter.error.floor_char_boundary(DEAD_LETTER_ERROR_BYTES_MAX);
    letter.error.truncate(end);
    Ok(letter)
}
