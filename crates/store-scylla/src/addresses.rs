//! Where servers are that tell addresses which cannot be reached from here.

use std::{collections::HashMap, net::SocketAddr};

use async_trait::async_trait;
use scylla::{
    errors::TranslationError,
    policies::address_translator::{AddressTranslator, UntranslatedPeer},
};

/// An address that is not listed is reached as it is told: a new server of the database needs
/// no new configuration as long as it can be reached.
#[derive(Debug)]
pub(crate) struct Addresses(pub(crate) HashMap<SocketAddr, SocketAddr>);

#[async_trait]
#[expect(elided_lifetimes_in_paths, reason = "as the trait has it: else it is another lifetime")]
impl AddressTranslator for Addresses {
    async fn translate_address(
        &self,
        peer: &UntranslatedPeer,
    ) -> Result<SocketAddr, TranslationError> {
        let told = peer.untranslated_address();
        Ok(self.0.get(&told).copied().unwrap_or(told))
    }
}
