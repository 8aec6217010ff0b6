//! The log of one attempt: segments that are only appended to.

use std::{
    collections::VecDeque,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use bytes::{Bytes, BytesMut};
use thiserror::Error;
use troupe_types::OutSeq;

use super::{
    fold::Fold,
    open::remove_all,
    record::{Ended, RECORD_HEAD_BYTES, Record, SEGMENT_HEAD, any_record_in, output_bytes},
};
use crate::identity::{private_dir, sync_dir};

/// A segment that is longer is followed by another one.
const SEGMENT_BYTES: u64 = 1024 * 1024;
/// A segment all of whose outputs were acknowledged is replaced when it is longer.
const SEGMENT_DONE_BYTES: u64 = 256 * 1024;

/// Why a log is not used.
#[derive(Debug, Error)]
pub enum LogError {
    /// The disk refused.
    #[error("the disk refused")]
    Io(#[source] io::Error),
    /// Something in the middle is not what was written.
    #[error("{file} is damaged at byte {at}")]
    Damaged {
        /// Which file.
        file: String,
        /// Where.
        at: u64,
    },
}

#[derive(Debug)]
struct Segment {
    number: u64,
    /// The last output in it.
    last: OutSeq,
}

/// Where an output lies.
#[derive(Clone, Copy, Debug)]
struct Place {
    segment: u64,
    at: u64,
    len: u32,
}

/// A log that is open.
#[derive(Debug)]
pub struct ExecutionLog {
    dir: PathBuf,
    segments: VecDeque<Segment>,
    file: File,
    len: u64,
    /// Bytes of the last segment that only say what older ones said.
    base: u64,
    fold: Fold,
    /// Places of the outputs after `acked`, in order.
    places: VecDeque<Place>,
    waiting: u64,
    /// For reading; of which segment.
    reader: Option<(u64, File)>,
    /// What was written since the last sync.
    dirty: bool,
    /// One did not succeed: what it was to make last may be gone, whatever a later one says.
    sync_failed: bool,
}

fn segment_path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:08}.log"))
}

fn segment_numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".log"));
        numbers.extend(number.and_then(|number| number.parse::<u64>().ok()));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_file(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

/// What reading the segments gave so far.
#[derive(Default)]
struct Scan {
    fold: Option<Fold>,
    places: VecDeque<Place>,
    /// Where the first record of the segment that was read last ends.
    base: u64,
}

impl Scan {
    /// Reads one segment; answers how many of its bytes are good.
    fn segment(&mut self, number: u64, bytes: &Bytes) -> Option<u64> {
        let mut at = SEGMENT_HEAD.len();
        self.base = 0;
        if bytes.get(..at) != Some(SEGMENT_HEAD) {
            return None;
        }
        while let Some((record, used)) = Record::decode(&bytes.slice(at..)) {
            if let Some(record) = record
                && !self.record(number, at, &record)
            {
                break;
            }
            at += used;
            if self.base == 0 {
                self.base = u64::try_from(at).unwrap_or(0);
            }
        }
        u64::try_from(at).ok()
    }

    fn record(&mut self, segment: u64, at: usize, record: &Record) -> bool {
        match (&mut self.fold, record) {
            (None, Record::Accepted(accepted)) => {
                self.fold = Some(Fold::new(accepted.clone()));
                return true;
            }
            (None, Record::Checkpoint(fold)) => {
                self.fold = Some((**fold).clone());
                return true;
            }
            (None, _) => return false,
            (Some(fold), record) => {
                if !fold.apply(record) {
                    return false;
                }
            }
        }
        if let Record::Output(_, body) = record {
            let at = u64::try_from(at).unwrap_or(u64::MAX);
            let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
            self.places.push_back(Place { segment, at, len });
        }
        true
    }
}

impl ExecutionLog {
    /// A new log with its first record, not synced yet.
    ///
    /// # Errors
    /// The disk refused.
    pub fn create(dir: &Path, first: &Record) -> io::Result<Self> {
        let Record::Accepted(accepted) = first else {
            return Err(io::Error::other("a log begins with an assignment"));
        };
        private_dir(dir)?;
        let file = open_file(&segment_path(dir, 1))?;
        let mut log = Self {
            dir: dir.to_owned(),
            segments: VecDeque::from([Segment { number: 1, last: OutSeq::ZERO }]),
            file,
            len: 0,
            base: 0,
            fold: Fold::new(accepted.clone()),
            places: VecDeque::new(),
            waiting: 0,
            reader: None,
            dirty: true,
            sync_failed: false,
        };
        let mut bytes = BytesMut::from(&SEGMENT_HEAD[..]);
        first.encode(&mut bytes)?;
        log.write(&bytes)?;
        log.base = log.len;
        sync_dir(dir)?;
        sync_dir(dir.parent().unwrap_or(dir))?;
        Ok(log)
    }

    /// Opens a log. A torn end of its last segment is cut off; `None`: nothing whole was ever
    /// written.
    ///
    /// # Errors
    /// See [`LogError`].
    pub fn open(dir: &Path) -> Result<Option<Self>, LogError> {
        let numbers = segment_numbers(dir).map_err(LogError::Io)?;
        let (mut scan, mut segments) = (Scan::default(), VecDeque::new());
        let mut end = None;
        for (n, number) in numbers.iter().enumerate() {
            let path = segment_path(dir, *number);
            let bytes = Bytes::from(fs::read(&path).map_err(LogError::Io)?);
            let good = scan.segment(*number, &bytes);
            let at = good.unwrap_or(0);
            let rest = bytes.slice(usize::try_from(at).unwrap_or(0)..);
            let torn = good.is_none() || !rest.is_empty();
            let is_last = n + 1 == numbers.len();
            if torn && (!is_last || any_record_in(&rest)) {
                let file = path.display().to_string();
                return Err(LogError::Damaged { file, at });
            }
            segments.push_back(Segment {
                number: *number,
                last: scan.fold.as_ref().map_or(OutSeq::ZERO, |fold| fold.last),
            });
            end = Some((path, at));
        }
        let (Some(fold), Some((path, good))) = (scan.fold, end) else { return Ok(None) };
        let mut log = Self {
            dir: dir.to_owned(),
            segments,
            file: open_file(&path).map_err(LogError::Io)?,
            len: good,
            base: scan.base,
            fold,
            places: scan.places,
            waiting: 0,
            reader: None,
            dirty: true,
            sync_failed: false,
        };
        log.settle().map_err(LogError::Io)?;
        Ok(Some(log))
    }

    /// After opening: cuts the torn end off and counts what waits.
    fn settle(&mut self) -> io::Result<()> {
        if self.len <= SEGMENT_HEAD.len() as u64 {
            // The crash came between making the segment and its first record.
            self.len = 0;
        }
        self.file.set_len(self.len)?;
        if self.len == 0 {
            let mut bytes = BytesMut::from(&SEGMENT_HEAD[..]);
            Record::Checkpoint(Box::new(self.fold.clone())).encode(&mut bytes)?;
            self.write(&bytes)?;
            self.base = self.len;
        }
        let waiting = usize::try_from(self.fold.last.0 - self.fold.acked.0).unwrap_or(usize::MAX);
        while self.places.len() > waiting {
            self.places.pop_front();
        }
        // Segments go only when all of their outputs were acknowledged.
        let kept = u64::try_from(self.places.len()).unwrap_or(u64::MAX);
        self.fold.acked = OutSeq(self.fold.last.0 - kept);
        self.waiting = self.places.iter().map(|place| cost(*place)).sum();
        self.sync()
    }

    /// What the log says.
    #[must_use]
    pub const fn fold(&self) -> &Fold {
        &self.fold
    }

    /// Takes over an end for which the log had no room.
    pub(super) fn end(&mut self, how: Ended, text: &str) {
        // Whatever came before, an end can follow; only the first one counts.
        let _ = self.fold.apply(&Record::Ended(how, text.to_owned()));
    }

    /// Bytes of outputs that were not acknowledged.
    #[must_use]
    pub const fn waiting_bytes(&self) -> u64 {
        self.waiting
    }

    /// All or nothing: what was written of a failed write is cut off again.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.seek(SeekFrom::Start(self.len)).and_then(|_| {
            self.dirty = true;
            self.file.write_all(bytes)
        });
        match written {
            Ok(()) => {
                self.len += u64::try_from(bytes.len()).unwrap_or(0);
                Ok(())
            }
            Err(error) => {
                self.file.set_len(self.len)?;
                Err(error)
            }
        }
    }

    /// Appends a record, not synced yet.
    ///
    /// # Errors
    /// The disk refused; the log is as it was.
    pub fn append(&mut self, record: &Record) -> io::Result<()> {
        if self.outgrew(SEGMENT_BYTES) {
            self.rotate()?;
        }
        let at = self.len;
        let mut bytes = BytesMut::new();
        record.encode(&mut bytes)?;
        self.write(&bytes)?;
        if !self.fold.apply(record) {
            return Err(io::Error::other("a record that cannot follow"));
        }
        if let Record::Output(seq, body) = record {
            let segment = self.segments.back_mut().ok_or_else(|| io::Error::other("no segment"))?;
            segment.last = *seq;
            let len = u32::try_from(body.len()).unwrap_or(u32::MAX);
            let place = Place { segment: segment.number, at, len };
            self.places.push_back(place);
            self.waiting += cost(place);
        }
        Ok(())
    }

    /// The next output of this log.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    pub fn append_output(&mut self, body: Bytes) -> io::Result<OutSeq> {
        let seq = self.fold.last.next();
        self.append(&Record::Output(seq, body))?;
        Ok(seq)
    }

    /// Makes all that was appended outlive a power failure. After an error nothing of this log
    /// may be promised any more: a sync is never repeated.
    ///
    /// # Errors
    /// The disk refused.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.sync_failed {
            return Err(io::Error::other("a sync failed before"));
        }
        if self.dirty {
            self.file.sync_data().inspect_err(|_| self.sync_failed = true)?;
            self.dirty = false;
        }
        Ok(())
    }

    /// Whether the last segment is this long, by a good part with more than it began with: else
    /// a long checkpoint would be written anew again and again.
    const fn outgrew(&self, bytes: u64) -> bool {
        self.len >= bytes && self.len - self.base >= self.base / 2
    }

    /// Begins a segment with all that is known, so that older ones can go.
    fn rotate(&mut self) -> io::Result<()> {
        // No want of room that passes: a sync is never repeated.
        self.sync().map_err(io::Error::other)?;
        let number = self.segments.back().map_or(1, |segment| segment.number + 1);
        let file = open_file(&segment_path(&self.dir, number))?;
        file.set_len(0)?;
        let mut bytes = BytesMut::from(&SEGMENT_HEAD[..]);
        Record::Checkpoint(Box::new(self.fold.clone())).encode(&mut bytes)?;
        let (old, old_len) = (std::mem::replace(&mut self.file, file), self.len);
        self.len = 0;
        // Older segments go once it is there: then it must outlive a power failure.
        let written = self.write(&bytes).and_then(|()| self.sync());
        if let Err(error) = written.and_then(|()| sync_dir(&self.dir)) {
            (self.file, self.len) = (old, old_len);
            let _ = fs::remove_file(segment_path(&self.dir, number));
            return Err(error);
        }
        self.base = self.len;
        self.segments.push_back(Segment { number, last: self.fold.last });
        Ok(())
    }

    /// Takes an acknowledgement; answers the bytes of outputs that need not be kept any more.
    ///
    /// # Errors
    /// The disk refused. The acknowledgement counts all the same.
    pub fn ack(&mut self, upto: OutSeq) -> (u64, io::Result<()>) {
        let upto = upto.min(self.fold.last);
        if upto <= self.fold.acked {
            return (0, Ok(()));
        }
        let count = usize::try_from(upto.0 - self.fold.acked.0).unwrap_or(usize::MAX);
        let freed = self.places.drain(..count.min(self.places.len())).map(cost).sum();
        self.waiting = self.waiting.saturating_sub(freed);
        (freed, self.trim(upto))
    }

    /// Notes the mark, lazily: one that is lost makes outputs come twice, which is allowed. So
    /// segments go first, which makes room: each later one begins with all that is known, and who
    /// opens the log takes outputs that are gone for acknowledged ones.
    fn trim(&mut self, upto: OutSeq) -> io::Result<()> {
        self.fold.acked = upto;
        let gone = self.drop_acked();
        let noted = if upto == self.fold.last && self.outgrew(SEGMENT_DONE_BYTES) {
            self.rotate().and_then(|()| self.drop_acked())
        } else {
            self.append_mark(upto)
        };
        gone.and(noted)
    }

    fn append_mark(&mut self, upto: OutSeq) -> io::Result<()> {
        let mut bytes = BytesMut::new();
        Record::Acked(upto).encode(&mut bytes)?;
        self.write(&bytes)
    }

    /// Deletes the segments before the last one all of whose outputs were acknowledged.
    fn drop_acked(&mut self) -> io::Result<()> {
        while self.segments.len() > 1 && self.segments[0].last <= self.fold.acked {
            match fs::remove_file(segment_path(&self.dir, self.segments[0].number)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => self.segments.pop_front(),
            };
        }
        Ok(())
    }

    /// Outputs from a number on; at least one if there is one, about `bytes_max` in all.
    ///
    /// # Errors
    /// The disk refused, or what lies there is not what was written.
    pub fn read(&mut self, from: OutSeq, bytes_max: usize) -> io::Result<Vec<(OutSeq, Bytes)>> {
        let first = self.fold.acked.next();
        let skip = usize::try_from(from.0.saturating_sub(first.0)).unwrap_or(usize::MAX);
        let mut seq = first.max(from);
        let (mut outputs, mut size) = (Vec::new(), 0);
        for n in skip..self.places.len() {
            let place = self.places[n];
            let len = usize::try_from(place.len).unwrap_or(usize::MAX);
            if size > 0 && size + len > bytes_max {
                break;
            }
            outputs.push((seq, self.read_place(place, seq)?));
            size += len;
            seq = seq.next();
        }
        Ok(outputs)
    }

    fn read_place(&mut self, place: Place, seq: OutSeq) -> io::Result<Bytes> {
        if self.reader.as_ref().is_none_or(|(number, _)| *number != place.segment) {
            let file = File::open(segment_path(&self.dir, place.segment))?;
            self.reader = Some((place.segment, file));
        }
        let Some((_, file)) = &mut self.reader else { return Err(io::Error::other("no reader")) };
        file.seek(SeekFrom::Start(place.at))?;
        let len = output_bytes(usize::try_from(place.len).unwrap_or(0));
        let mut bytes = vec![0; len];
        file.read_exact(&mut bytes)?;
        match Record::decode(&Bytes::from(bytes)) {
            Some((Some(Record::Output(found, body)), _)) if found == seq => Ok(body),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an output is damaged")),
        }
    }

    /// Deletes all of it.
    ///
    /// # Errors
    /// The disk refused; the next start tries again.
    pub fn remove(self) -> io::Result<()> {
        remove_all(&self.dir)
    }
}

fn cost(place: Place) -> u64 {
    let len = usize::try_from(place.len).unwrap_or(usize::MAX);
    debug_assert!(RECORD_HEAD_BYTES < output_bytes(0));
    u64::try_from(output_bytes(len)).unwrap_or(u64::MAX)
}
