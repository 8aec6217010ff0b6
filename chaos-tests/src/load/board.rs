//! What is known about the Tasks of a run.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::viewer::Viewer;

/// One Task.
#[derive(Debug, Default)]
struct Entry {
    status: String,
    /// Nobody asks anything more of it.
    finished: bool,
    /// Its log was read and found good, after it was finished.
    checked: bool,
    viewers: Vec<Viewer>,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Board {
    tasks: Mutex<BTreeMap<String, Entry>>,
    at_work: AtomicUsize,
    heal: AtomicBool,
    /// Commands that were given up, with what was heard last.
    given_up: Mutex<Vec<String>>,
}

impl Board {
    pub(crate) fn new() -> Self {
        Self { heal: AtomicBool::new(true), ..Self::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A Task that was acknowledged.
    pub(crate) fn add(&self, task: &str, viewers: Vec<Viewer>) {
        let entry = Entry { status: "PENDING".to_owned(), viewers, ..Entry::default() };
        self.lock().entry(task.to_owned()).or_insert(entry);
    }

    pub(crate) fn told(&self, task: &str, status: &str) {
        if let Some(entry) = self.lock().get_mut(task) {
            status.clone_into(&mut entry.status);
        }
    }

    pub(crate) fn finished(&self, task: &str) {
        if let Some(entry) = self.lock().get_mut(task) {
            entry.finished = true;
        }
    }

    /// Its log was read: its viewers may go if they saw all of it.
    pub(crate) fn checked(&self, task: &str, head: u64) {
        if let Some(entry) = self.lock().get_mut(task) {
            entry.checked = true;
            entry.viewers.retain(|viewer| viewer.last() < head);
        }
    }

    pub(crate) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    /// Finished Tasks whose log was not read yet.
    pub(crate) fn to_check(&self) -> Vec<String> {
        let tasks = self.lock();
        let open = tasks.iter().filter(|(_, entry)| entry.finished && !entry.checked);
        open.map(|(task, _)| task.clone()).collect()
    }

    /// Tasks somebody still works on, with their status.
    pub(crate) fn unfinished(&self) -> Vec<(String, String)> {
        let tasks = self.lock();
        let open = tasks.iter().filter(|(_, entry)| !entry.finished);
        open.map(|(task, entry)| (task.clone(), entry.status.clone())).collect()
    }

    /// The last frame that any viewer saw.
    pub(crate) fn seen(&self, task: &str) -> u64 {
        let tasks = self.lock();
        let viewers = tasks.get(task).map(|entry| entry.viewers.as_slice()).unwrap_or_default();
        viewers.iter().map(Viewer::last).max().unwrap_or(0)
    }

    /// Viewers of finished Tasks who saw less than others.
    pub(crate) fn behind(&self) -> Vec<String> {
        let tasks = self.lock();
        let mut all = Vec::new();
        for entry in tasks.values().filter(|entry| entry.finished) {
            let most = entry.viewers.iter().map(Viewer::last).max().unwrap_or(0);
            let late = entry.viewers.iter().filter(|viewer| viewer.last() < most);
            all.extend(late.map(|viewer| viewer.name().to_owned()));
        }
        all
    }

    /// Whether every viewer saw all of it.
    pub(crate) fn caught_up(&self, task: &str, head: u64) -> bool {
        let tasks = self.lock();
        tasks.get(task).is_none_or(|entry| entry.viewers.iter().all(|v| v.last() >= head))
    }

    pub(crate) fn begin_work(&self) {
        self.at_work.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn end_work(&self) {
        self.at_work.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn at_work(&self) -> usize {
        self.at_work.load(Ordering::SeqCst)
    }

    /// Whether viewers whose stream went silent open another one by themselves.
    pub(crate) fn heal_streams(&self, heal: bool) {
        self.heal.store(heal, Ordering::SeqCst);
    }

    pub(crate) fn heals(&self) -> bool {
        self.heal.load(Ordering::SeqCst)
    }

    pub(crate) fn give_up(&self, what: String) {
        self.given_up.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }

    /// Takes the list.
    pub(crate) fn take_given_up(&self) -> Vec<String> {
        std::mem::take(&mut *self.given_up.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn close_viewers(&self) {
        self.lock().values_mut().for_each(|entry| entry.viewers.clear());
    }
}
