//! The servers of the kit, over plain HTTP.

#[cfg(test)]
mod mcp;
#[cfg(test)]
mod process;
