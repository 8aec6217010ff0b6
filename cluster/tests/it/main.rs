//! The real `troupe` binary as one node: started, used through its public surface alone, killed,
//! starved and fed garbage.
//!
//! Nothing of the house but the tables of the API is used to judge what it says: the fold of
//! frames here is a witness of its own.

#[cfg(test)]
mod bad_events;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod bad_model;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod disk;
#[cfg(test)]
mod fold;
#[cfg(test)]
mod kill9;
#[cfg(test)]
mod ledger;
#[cfg(test)]
mod lifecycle;
#[cfg(test)]
mod load;
#[cfg(test)]
mod node;
#[cfg(test)]
mod scene;
#[cfg(test)]
mod soft_state;
#[cfg(test)]
mod stages;
#[cfg(test)]
mod stream;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod teams;
#[cfg(test)]
mod viewer;
