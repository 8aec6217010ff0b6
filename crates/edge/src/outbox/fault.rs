//! What an error of the disk means.

use std::io;

// The same numbers on every Unix; the standard library has no names for them.
const EIO: i32 = 5;
const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Whether what should be read is lost. All else is a want of the moment: it is read again.
pub(super) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof | NotFound)
        || error.raw_os_error() == Some(EIO)
}

/// Whether what could not be written may be written later: the disk has no room, or the machine
/// lacks files or memory just now.
pub(super) fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, QuotaExceeded, StorageFull, WouldBlock};
    matches!(error.kind(), StorageFull | QuotaExceeded | OutOfMemory | Interrupted | WouldBlock)
        || matches!(error.raw_os_error(), Some(ENFILE | EMFILE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_of_the_machine_is_no_damage() {
        let of = io::Error::from_raw_os_error;
        for (want, writes) in [(ENFILE, true), (EMFILE, true), (12, true), (28, true), (13, false)]
        {
            assert!(!is_damage(&of(want)), "{want}");
            assert_eq!(passes(&of(want)), writes, "{want}");
        }
        for damage in [of(EIO), of(2), io::ErrorKind::InvalidData.into()] {
            assert!(is_damage(&damage) && !passes(&damage), "{damage}");
        }
    }
}
