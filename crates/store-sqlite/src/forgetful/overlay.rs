//! What a file holds that its disk does not: the page cache of a machine whose power may fail.

use std::collections::BTreeMap;

/// The unit in which writes reach the disk: a sector.
const SECTOR: usize = 512;

/// A result code of SQLite.
pub(super) type Code = i32;

/// The file on the disk.
pub(super) trait Disk {
    /// Fills all of `buf`, with zeros beyond the end.
    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), Code>;
    fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Code>;
    fn truncate(&mut self, len: u64) -> Result<(), Code>;
}

#[derive(Debug)]
struct Sector {
    data: [u8; SECTOR],
    /// A clean one is believed to be on the disk: it was there when an fsync failed.
    dirty: bool,
}

/// One file as the process sees it.
#[derive(Debug)]
pub(super) struct Overlay {
    sectors: BTreeMap<u64, Sector>,
    /// The length that the process sees.
    len: u64,
    /// Beyond this, what is on the disk was cut off and is read as zeros.
    visible: u64,
    /// Whether the cut has not reached the disk yet.
    cut: bool,
    /// State of a small generator: which unsynced sectors reach the disk all the same.
    chance: u64,
}

impl Overlay {
    pub(super) fn new(len: u64, seed: u64) -> Self {
        Self { sectors: BTreeMap::new(), len, visible: len, cut: false, chance: seed | 1 }
    }

    pub(super) const fn len(&self) -> u64 {
        self.len
    }

    /// Fills `buf`, with zeros beyond the end; tells whether all of it was there.
    pub(super) fn read(
        &mut self,
        disk: &mut dyn Disk,
        at: u64,
        buf: &mut [u8],
    ) -> Result<bool, Code> {
        let end = at + buf.len() as u64;
        for (index, from, to) in pieces(at, buf.len()) {
            let place = (index * SECTOR as u64 + from as u64 - at) as usize;
            let sector = self.sector(disk, index)?;
            buf[place..place + to - from].copy_from_slice(&sector[from..to]);
        }
        if end > self.len {
            let there = self.len.saturating_sub(at).min(buf.len() as u64) as usize;
            buf[there..].fill(0);
        }
        Ok(end <= self.len)
    }

    /// Writes to the cache. A quarter of all sectors goes to the disk at once: a kernel writes
    /// back when it likes, in any order.
    pub(super) fn write(&mut self, disk: &mut dyn Disk, at: u64, data: &[u8]) -> Result<(), Code> {
        for (index, from, to) in pieces(at, data.len()) {
            let place = (index * SECTOR as u64 + from as u64 - at) as usize;
            let mut sector = self.sector(disk, index)?;
            sector[from..to].copy_from_slice(&data[place..place + to - from]);
            self.sectors.insert(index, Sector { data: sector, dirty: true });
            if self.throw().is_multiple_of(4) {
                disk.write(index * SECTOR as u64, &sector)?;
            }
        }
        self.len = self.len.max(at + data.len() as u64);
        Ok(())
    }

    pub(super) fn truncate(&mut self, len: u64) {
        if len < self.len {
            self.cut = true;
            self.visible = self.visible.min(len);
            self.sectors.split_off(&len.div_ceil(SECTOR as u64));
            if let Some(last) = self.sectors.get_mut(&(len / SECTOR as u64)) {
                last.data[(len % SECTOR as u64) as usize..].fill(0);
            }
        }
        self.len = len;
    }

    /// Everything that the process has written is on the disk afterwards, except what an
    /// earlier sync has failed to bring there.
    pub(super) fn sync(&mut self, disk: &mut dyn Disk) -> Result<(), Code> {
        if self.cut {
            disk.truncate(self.visible)?;
        }
        for (index, sector) in self.sectors.iter().filter(|(_, sector)| sector.dirty) {
            disk.write(index * SECTOR as u64, &sector.data)?;
        }
        // Whole sectors may have gone beyond the end, and a longer file may end in a hole.
        disk.truncate(self.len)?;
        self.sectors.retain(|_, sector| !sector.dirty);
        (self.visible, self.cut) = (self.len, false);
        Ok(())
    }

    /// A sync that fails: the cache stays readable, and nothing of it is ever written again
    /// unless the process writes it anew.
    pub(super) fn fail_sync(&mut self) {
        for sector in self.sectors.values_mut() {
            sector.dirty = false;
        }
    }

    fn sector(&self, disk: &mut dyn Disk, index: u64) -> Result<[u8; SECTOR], Code> {
        if let Some(sector) = self.sectors.get(&index) {
            return Ok(sector.data);
        }
        let mut data = [0; SECTOR];
        let start = index * SECTOR as u64;
        let there = self.visible.saturating_sub(start).min(SECTOR as u64) as usize;
        if there > 0 {
            disk.read(start, &mut data[..there])?;
        }
        Ok(data)
    }

    /// A xorshift generator: no randomness is needed beyond "not always the same".
    fn throw(&mut self) -> u64 {
        self.chance ^= self.chance << 13;
        self.chance ^= self.chance >> 7;
        self.chance ^= self.chance << 17;
        self.chance
    }
}

/// The parts of sectors that a range touches: (sector, from, to).
fn pieces(at: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let size = SECTOR as u64;
    let end = at + len as u64;
    (at / size..end.div_ceil(size)).map(move |index| {
        let start = index * size;
        let from = at.saturating_sub(start) as usize;
        (index, from, (end - start).min(size) as usize)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Disk for Vec<u8> {
        fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), Code> {
            for (n, byte) in buf.iter_mut().enumerate() {
                *byte = self.get(at as usize + n).copied().unwrap_or(0);
            }
            Ok(())
        }

        fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Code> {
            let end = at as usize + data.len();
            self.resize(self.len().max(end), 0);
            self[at as usize..end].copy_from_slice(data);
            Ok(())
        }

        fn truncate(&mut self, len: u64) -> Result<(), Code> {
            self.resize(len as usize, 0);
            Ok(())
        }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Write(u64, Vec<u8>),
        Truncate(u64),
        Sync,
    }

    fn op() -> impl Strategy<Value = Op> {
        let bytes = || prop::collection::vec(any::<u8>(), 1..1500);
        prop_oneof![
            4 => (0..5_000u64, bytes()).prop_map(|(at, data)| Op::Write(at, data)),
            1 => (0..6_000u64).prop_map(Op::Truncate),
            2 => Just(Op::Sync),
        ]
    }

    proptest! {
        #[test]
        fn the_process_sees_its_writes_and_the_disk_what_was_synced(
            ops in prop::collection::vec(op(), 1..40),
            seed in any::<u64>(),
        ) {
            let (mut disk, mut seen) = (Vec::new(), Vec::new());
            let mut file = Overlay::new(0, seed);
            for op in ops {
                match op {
                    Op::Write(at, data) => {
                        file.write(&mut disk, at, &data).unwrap();
                        seen.write(at, &data).unwrap();
                    }
                    Op::Truncate(len) => {
                        file.truncate(len);
                        Disk::truncate(&mut seen, len).unwrap();
                    }
                    Op::Sync => {
                        file.sync(&mut disk).unwrap();
                        prop_assert_eq!(&disk, &seen);
                    }
                }
                let mut all = vec![1; seen.len() + 3];
                prop_assert!(!file.read(&mut disk, 0, &mut all).unwrap());
                prop_assert_eq!(&all[..seen.len()], &seen[..]);
                prop_assert_eq!(&all[seen.len()..], &[0; 3][..]);
                prop_assert_eq!(file.len(), seen.len() as u64);
            }
        }
    }

    #[test]
    fn what_was_not_synced_is_forgotten_and_what_a_failed_sync_lost_stays_lost() {
        let mut disk = Vec::new();
        let mut file = Overlay::new(0, 1);
        file.write(&mut disk, 0, &[7; 64 * SECTOR]).unwrap();
        let there = disk.iter().filter(|byte| **byte == 7).count();
        assert!(there < 40 * SECTOR, "most of it is not there yet: {there}");
        file.fail_sync();
        file.sync(&mut disk).unwrap();
        assert_eq!(disk.iter().filter(|byte| **byte == 7).count(), there, "and never will be");
        let mut all = vec![0; 64 * SECTOR];
        assert!(file.read(&mut disk, 0, &mut all).unwrap());
        assert!(all.iter().all(|byte| *byte == 7), "but it can be read");
    }
}
