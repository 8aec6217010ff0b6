//! What stands between a node and the others when more than loss is wanted.

pub(crate) mod cql;
pub(crate) mod tcp;
pub(crate) mod udp;
