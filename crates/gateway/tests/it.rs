//! The gateway against fakes of the use cases, over real connections.

#[cfg(test)]
#[path = "it/admin.rs"]
mod admin;
#[cfg(test)]
#[path = "it/bad_input.rs"]
mod bad_input;
#[cfg(test)]
#[path = "it/fake.rs"]
mod fake;
#[cfg(test)]
#[path = "it/follow.rs"]
mod follow;
#[cfg(test)]
#[path = "it/https.rs"]
mod https;
#[cfg(test)]
#[path = "it/node.rs"]
mod node;
#[cfg(test)]
#[path = "it/openapi.rs"]
mod openapi;
#[cfg(test)]
#[path = "it/packages.rs"]
mod packages;
#[path = "it/rest.rs"]
mod rest;
#[cfg(test)]
#[path = "it/sio.rs"]
mod sio;
#[cfg(test)]
#[path = "it/sockets.rs"]
mod sockets;
#[cfg(test)]
#[path = "it/stream.rs"]
mod stream;
