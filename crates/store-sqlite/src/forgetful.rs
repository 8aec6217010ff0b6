//! A file layer for tests: what SQLite did not sync is gone when the process is killed.
//!
//! A killed process leaves the page cache to the kernel, so kill -9 alone shows nothing about
//! fsync. Here the page cache of the database and its WAL is a map in the process
//! ([`Overlay`]); a sync writes it to the file, and a kill forgets it. A quarter of the unsynced
//! sectors reaches the file all the same, in any order. Syncs can be made to fail the way they
//! do in Linux: once, with the cache marked as clean.
//!
//! SQLite asks for its file layer as a table of C functions, so this is the one place of the
//! workspace with unsafe code; it stands behind a feature that no release is built with.

#![expect(unsafe_code, reason = "SQLite's file layer is a C interface; for tests only")]

mod overlay;

use std::{
    collections::HashMap,
    ffi::{CStr, c_char, c_int, c_void},
    mem::{offset_of, size_of},
    path::Path,
    ptr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use rusqlite::ffi;

use self::overlay::{Code, Disk, Overlay};

/// The name to give to `SqliteOptions::file_layer`.
pub const NAME: &str = "troupe-forgetful";
const NAME_C: &CStr = c"troupe-forgetful";

/// What one file of this process holds beyond its disk.
#[derive(Debug)]
struct Cached {
    overlay: Overlay,
    syncs: u64,
    failing: u32,
}

type Shared = Arc<Mutex<Cached>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All files by path: connections of one process share a cache, and it outlives them.
fn files() -> MutexGuard<'static, HashMap<String, Shared>> {
    static FILES: OnceLock<Mutex<HashMap<String, Shared>>> = OnceLock::new();
    lock(FILES.get_or_init(Mutex::default))
}

/// Lets the next `count` syncs of this file fail. It must have been opened through the layer.
pub fn fail_syncs(path: &Path, count: u32) {
    if let Some(file) = files().get(&*path.to_string_lossy()) {
        lock(file).failing = count;
    }
}

/// How often this file was synced.
#[must_use]
pub fn syncs(path: &Path) -> u64 {
    files().get(&*path.to_string_lossy()).map_or(0, |file| lock(file).syncs)
}

/// The layer below: the system's own.
struct Below(*mut ffi::sqlite3_vfs);

// SAFETY: SQLite's file layers are registered once, never change, and may be used by any thread.
unsafe impl Send for Below {}
// SAFETY: as above.
unsafe impl Sync for Below {}

static BELOW: OnceLock<Below> = OnceLock::new();

/// Registers the layer, once; call it before a store is opened with it.
///
/// # Panics
/// If SQLite has no file layer of its own to stand on.
pub fn register() {
    BELOW.get_or_init(|| {
        // SAFETY: initialisation is idempotent; a null name asks for the default layer, which
        // lives as long as the process. What is registered is leaked, so it does too.
        unsafe {
            ffi::sqlite3_initialize();
            let below = ffi::sqlite3_vfs_find(ptr::null());
            assert!(!below.is_null(), "SQLite has a default file layer");
            // A copy keeps what the functions of the system's layer look at in themselves.
            let layer = Box::leak(Box::new(*below));
            let own = c_int::try_from(size_of::<File>()).expect("it is small");
            layer.szOsFile += own;
            layer.zName = NAME_C.as_ptr();
            layer.pNext = ptr::null_mut();
            layer.xOpen = Some(open);
            layer.xDelete = Some(delete);
            layer.xAccess = Some(access);
            assert_eq!(ffi::sqlite3_vfs_register(layer, 0), ffi::SQLITE_OK);
            Below(below)
        }
    });
}

fn below() -> *mut ffi::sqlite3_vfs {
    BELOW.get().expect("only a registered layer is called").0
}

/// An open file. SQLite allocates it with the system's own file directly behind it.
#[repr(C)]
struct File {
    base: ffi::sqlite3_file,
    /// From `Arc::into_raw`; null for files that are passed through (temporary ones).
    cached: *const Mutex<Cached>,
}

/// The system's file behind ours.
///
/// # Safety
/// `file` was made by `open` of this layer.
unsafe fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    // SAFETY: `szOsFile` asked for room for both, one after the other.
    unsafe { file.cast::<File>().add(1).cast() }
}

/// Calls a function of the system's file.
macro_rules! pass {
    ($file:expr, $method:ident $(, $arg:expr)*) => {{
        // SAFETY: the system's file is open as long as ours, and knows its own methods.
        unsafe {
            let real = real($file);
            (*(*real).pMethods).$method.expect("the system's layer is complete")(real $(, $arg)*)
        }
    }};
}

impl Disk for *mut ffi::sqlite3_file {
    fn read(&mut self, at: u64, buf: &mut [u8]) -> Result<(), Code> {
        let code = pass!(*self, xRead, buf.as_mut_ptr().cast(), size(buf), at.cast_signed());
        // Beyond the end the system's layer fills with zeros, as this asks for.
        if code == ffi::SQLITE_IOERR_SHORT_READ { Ok(()) } else { ok(code) }
    }

    fn write(&mut self, at: u64, data: &[u8]) -> Result<(), Code> {
        ok(pass!(*self, xWrite, data.as_ptr().cast(), size(data), at.cast_signed()))
    }

    fn truncate(&mut self, len: u64) -> Result<(), Code> {
        ok(pass!(*self, xTruncate, len.cast_signed()))
    }
}

fn ok(code: c_int) -> Result<(), Code> {
    if code == ffi::SQLITE_OK { Ok(()) } else { Err(code) }
}

fn code(result: Result<(), Code>) -> c_int {
    result.err().unwrap_or(ffi::SQLITE_OK)
}

fn size(bytes: &[u8]) -> c_int {
    c_int::try_from(bytes.len()).unwrap_or(c_int::MAX)
}

/// The cache of a file, if it has one.
fn cached<'a>(file: *mut ffi::sqlite3_file) -> Option<MutexGuard<'a, Cached>> {
    // SAFETY: `file` was made by `open`; the pointer is null or holds a count until `close`.
    unsafe { (*file.cast::<File>()).cached.as_ref() }.map(lock)
}

unsafe extern "C" fn open(
    _: *mut ffi::sqlite3_vfs,
    name: ffi::sqlite3_filename,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    let ours = file.cast::<File>();
    // SAFETY: SQLite passes a block of `szOsFile` bytes, and names that live as long as it.
    let opened = unsafe {
        // No methods means "not open": SQLite will not call close after an error.
        let base = ffi::sqlite3_file { pMethods: ptr::null() };
        ours.write(File { base, cached: ptr::null() });
        let open = (*below()).xOpen.expect("the system's layer is complete");
        open(below(), name, real(file), flags, out)
    };
    if opened != ffi::SQLITE_OK {
        return opened;
    }
    let mut cached = ptr::null();
    if flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL) != 0 && !name.is_null() {
        let mut len = 0;
        let sized = pass!(file, xFileSize, &raw mut len);
        if sized != ffi::SQLITE_OK {
            let _ = pass!(file, xClose);
            return sized;
        }
        // SAFETY: as above.
        let path = unsafe { CStr::from_ptr(name) }.to_string_lossy().into_owned();
        cached = Arc::into_raw(cache_of(path, u64::try_from(len).unwrap_or(0)));
    }
    // SAFETY: as above.
    unsafe {
        (*ours).cached = cached;
        (*ours).base.pMethods = &raw const METHODS;
    }
    ffi::SQLITE_OK
}

/// The cache of a path; a new one begins with what is on the disk.
fn cache_of(path: String, len: u64) -> Shared {
    let seed = path.bytes().fold(7u64, |n, byte| n.wrapping_mul(31).wrapping_add(byte.into()));
    let overlay = || Overlay::new(len, seed);
    let fresh = || Arc::new(Mutex::new(Cached { overlay: overlay(), syncs: 0, failing: 0 }));
    Arc::clone(files().entry(path).or_insert_with(fresh))
}

unsafe extern "C" fn delete(_: *mut ffi::sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite passes a valid name.
    unsafe {
        files().remove(&*CStr::from_ptr(name).to_string_lossy());
        (*below()).xDelete.expect("the system's layer is complete")(below(), name, sync)
    }
}

/// A file that has all its bytes in the cache exists too, though it is empty on the disk.
unsafe extern "C" fn access(
    _: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite passes a valid name and a place for the answer.
    unsafe {
        let known = files().get(&*CStr::from_ptr(name).to_string_lossy()).map(Arc::clone);
        if known.is_some_and(|file| lock(&file).overlay.len() > 0) {
            *out = 1;
            return ffi::SQLITE_OK;
        }
        (*below()).xAccess.expect("the system's layer is complete")(below(), name, flags, out)
    }
}

unsafe extern "C" fn close(file: *mut ffi::sqlite3_file) -> c_int {
    let code = pass!(file, xClose);
    // SAFETY: the count that `open` put there, taken back once.
    unsafe {
        let cached = (*file.cast::<File>()).cached;
        if !cached.is_null() {
            drop(Arc::from_raw(cached));
        }
    }
    code
}

unsafe extern "C" fn read(
    file: *mut ffi::sqlite3_file,
    buf: *mut c_void,
    len: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    let Some(mut cached) = cached(file) else { return pass!(file, xRead, buf, len, at) };
    let bytes = usize::try_from(len).unwrap_or(0);
    // SAFETY: SQLite passes a buffer of `len` bytes.
    let buf = unsafe { std::slice::from_raw_parts_mut(buf.cast::<u8>(), bytes) };
    let mut disk = file;
    match cached.overlay.read(&mut disk, at.cast_unsigned(), buf) {
        Ok(true) => ffi::SQLITE_OK,
        Ok(false) => ffi::SQLITE_IOERR_SHORT_READ,
        Err(code) => code,
    }
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    data: *const c_void,
    len: c_int,
    at: ffi::sqlite3_int64,
) -> c_int {
    let Some(mut cached) = cached(file) else { return pass!(file, xWrite, data, len, at) };
    let bytes = usize::try_from(len).unwrap_or(0);
    // SAFETY: SQLite passes `len` bytes.
    let data = unsafe { std::slice::from_raw_parts(data.cast::<u8>(), bytes) };
    let mut disk = file;
    code(cached.overlay.write(&mut disk, at.cast_unsigned(), data))
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: ffi::sqlite3_int64) -> c_int {
    let Some(mut cached) = cached(file) else { return pass!(file, xTruncate, len) };
    cached.overlay.truncate(len.cast_unsigned());
    ffi::SQLITE_OK
}

/// Brings the cache to the file. The file itself is not synced: a killed process loses nothing
/// of what its kernel has.
unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, flags: c_int) -> c_int {
    let Some(mut cached) = cached(file) else { return pass!(file, xSync, flags) };
    if cached.failing > 0 {
        cached.failing -= 1;
        cached.overlay.fail_sync();
        return ffi::SQLITE_IOERR_FSYNC;
    }
    cached.syncs += 1;
    let mut disk = file;
    code(cached.overlay.sync(&mut disk))
}

unsafe extern "C" fn file_size(
    file: *mut ffi::sqlite3_file,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    let Some(cached) = cached(file) else { return pass!(file, xFileSize, out) };
    // SAFETY: SQLite passes a place for the answer.
    unsafe { *out = cached.overlay.len().cast_signed() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn take_lock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass!(file, xLock, level)
}

unsafe extern "C" fn unlock(file: *mut ffi::sqlite3_file, level: c_int) -> c_int {
    pass!(file, xUnlock, level)
}

unsafe extern "C" fn check_reserved(file: *mut ffi::sqlite3_file, out: *mut c_int) -> c_int {
    pass!(file, xCheckReservedLock, out)
}

unsafe extern "C" fn control(file: *mut ffi::sqlite3_file, op: c_int, arg: *mut c_void) -> c_int {
    pass!(file, xFileControl, op, arg)
}

unsafe extern "C" fn sector_size(file: *mut ffi::sqlite3_file) -> c_int {
    pass!(file, xSectorSize)
}

unsafe extern "C" fn characteristics(file: *mut ffi::sqlite3_file) -> c_int {
    pass!(file, xDeviceCharacteristics)
}

unsafe extern "C" fn shm_map(
    file: *mut ffi::sqlite3_file,
    region: c_int,
    size: c_int,
    extend: c_int,
    out: *mut *mut c_void,
) -> c_int {
    pass!(file, xShmMap, region, size, extend, out)
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    offset: c_int,
    n: c_int,
    flags: c_int,
) -> c_int {
    pass!(file, xShmLock, offset, n, flags)
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    pass!(file, xShmBarrier);
}

unsafe extern "C" fn shm_unmap(file: *mut ffi::sqlite3_file, delete: c_int) -> c_int {
    pass!(file, xShmUnmap, delete)
}

/// Version 2: everything but memory-mapped reads, which would go around the cache.
static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 2,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(take_lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved),
    xFileControl: Some(control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: None,
    xUnfetch: None,
};

const _: () = assert!(offset_of!(File, base) == 0, "SQLite looks for the methods at the start");
const _: () = assert!(size_of::<File>().is_multiple_of(8), "the file behind ours is aligned to 8");
