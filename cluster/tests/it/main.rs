//! The real `troupe` binary as one node: started, used through its public surface alone, killed,
//! starved and fed garbage.
//!
//! Nothing of the house but the tables of the API is used to judge what it says: the fold of
//! frames here is a witness of its own.

#[cfg(test)]
mod admin;
#[cfg(test)]
mod backup;
#[cfg(test)]
mod bad_events;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bad_model;
#[cfg(test)]
mod choices;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod https;
#[cfg(test)]
mod init;
#[cfg(test)]
mod kill9;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod load;
#[cfg(test)]
mod long_tasks;
#[cfg(test)]
mod machines;
#[cfg(test)]
mod metric_names;
#[cfg(test)]
mod node;
#[cfg(test)]
mod soft_state;
#[cfg(test)]
mod stages;
#[cfg(test)]
mod teams;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod two_users;
#[cfg(test)]
mod versions;
mod viewer;

#[cfg(test)]
use troupe_testkit::client::{fold, scene, stream, tasks};
