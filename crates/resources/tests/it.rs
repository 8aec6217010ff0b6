//! The crate from outside.

#[cfg(test)]
#[path = "it/any.rs"]
mod any;
#[cfg(test)]
#[path = "it/bounds.rs"]
mod bounds;
#[cfg(test)]
#[path = "it/corpus.rs"]
mod corpus;
#[cfg(test)]
#[path = "it/examples.rs"]
mod examples;
#[cfg(test)]
#[path = "it/properties.rs"]
mod properties;
#[cfg(test)]
#[path = "it/shipped.rs"]
mod shipped;
#[cfg(test)]
#[path = "it/unused.rs"]
mod unused;
