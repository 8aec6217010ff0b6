//! Machines that join with the real `troupe-edge` and run real agents against a scripted model.

mod ages;
mod asks;
mod back;
mod cancels;
mod containers;
mod docker;
mod faults;
mod fences;
mod granted;
mod jobs;
mod joining;
mod kills;
pub(crate) mod kit;
pub(crate) mod members;
mod moves;
mod netns;
mod pools;
mod restored;
mod router;
mod script;
mod skills;
mod tcp;
mod three;
mod two;
mod verbs;
mod weather;
