//! Entities over the in-memory store: real actors, the demo model, no sockets.
#[cfg(test)]
mod chaos;
#[cfg(test)]
mod devices;
#[cfg(test)]
mod host;
#[cfg(test)]
mod life;
#[cfg(test)]
mod namespace;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod tasks;
