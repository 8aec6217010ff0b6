//! A client of a node for tests: REST, the stream, the fold of frames, and a cast of Bots with
//! the words of their model. Nothing of the house judges here what a node says.

pub mod fold;
pub mod rest;
pub mod scene;
pub mod stream;
pub mod tasks;
