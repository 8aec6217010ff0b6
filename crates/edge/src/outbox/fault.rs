//! What an error of the disk means.

use std::io;

use rustix::io::Errno;

/// Whether it is one of these, for which the standard library has no names.
fn is_one_of(error: &io::Error, some: &[Errno]) -> bool {
    Errno::from_io_error(error).is_some_and(|errno| some.contains(&errno))
}

/// Whether what should be read is lost. All else is a want of the moment: it is read again.
pub(super) fn is_damage(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidData, NotFound, UnexpectedEof};
    matches!(error.kind(), InvalidData | UnexpectedEof | NotFound) || is_one_of(error, &[Errno::IO])
}

/// Whether what could not be written may be written later: the disk has no room, or the machine
/// lacks files or memory just now.
pub(super) fn passes(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, OutOfMemory, QuotaExceeded, StorageFull, WouldBlock};
    matches!(error.kind(), StorageFull | QuotaExceeded | OutOfMemory | Interrupted | WouldBlock)
        || is_one_of(error, &[Errno::NFILE, Errno::MFILE])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_of_the_machine_is_no_damage() {
        for (want, writes) in [
            (Errno::NFILE, true),
            (Errno::MFILE, true),
            (Errno::NOMEM, true),
            (Errno::NOSPC, true),
            (Errno::ACCESS, false),
        ] {
            assert!(!is_damage(&want.into()), "{want}");
            assert_eq!(passes(&want.into()), writes, "{want}");
        }
        for damage in [Errno::IO.into(), Errno::NOENT.into(), io::ErrorKind::InvalidData.into()] {
            assert!(is_damage(&damage) && !passes(&damage), "{damage}");
        }
    }
}
