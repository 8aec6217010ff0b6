//! Models of plans, ready to be called: opens sealed keys, applies the egress rule.

use std::{fmt, sync::Arc};

use troupe_chat::{ModelFactory, SecretOpener, SecretRef};
use troupe_domain::task::ModelPlan;
use troupe_llm::{
    AuthStyle, Llm, ModelConfig, ModelError, Provider, ProviderKind, Reach, Sealer, SecretText,
};

/// A sealed secret with the place that it belongs to, as one text: plans hold this.
#[must_use]
pub fn sealed_at(sealed: &str, path: &str) -> String {
    format!("{sealed}@{path}")
}

/// Whether a text in a plan is opened before it is sent. No document may hold such a text: it
/// would have somebody else's secret opened.
#[must_use]
pub fn looks_sealed(text: &str) -> bool {
    text.starts_with("sealed:")
}

/// Makes models of plans.
pub struct ProviderFactory {
    llm: Llm,
    sealer: Arc<Sealer>,
    /// The node itself listens on loopback only, so loopback is open to everybody's models.
    loopback_for_all: bool,
}

impl fmt::Debug for ProviderFactory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderFactory").finish_non_exhaustive()
    }
}

impl ProviderFactory {
    /// With a node's keys and connections.
    #[must_use]
    pub const fn new(llm: Llm, sealer: Arc<Sealer>, loopback_for_all: bool) -> Self {
        Self { llm, sealer, loopback_for_all }
    }

    fn open(&self, text: &str) -> Result<SecretText, ModelError> {
        open(&self.sealer, text).ok_or_else(|| ModelError::Config {
            detail: "the model's key cannot be opened on this node; write it again".to_owned(),
        })
    }
}

impl ModelFactory for ProviderFactory {
    fn provider(&self, plan: &ModelPlan) -> Result<Arc<dyn Provider>, ModelError> {
        let kind = ProviderKind::of(&plan.provider).ok_or_else(|| ModelError::Config {
            detail: format!("models of the provider `{}` cannot be called here", plan.provider),
        })?;
        let mut config = ModelConfig::new(kind, &plan.model_id);
        config.base_url.clone_from(&plan.base_url);
        config.api_key = plan.sealed_key.as_deref().map(|k| self.open(k)).transpose()?;
        config.auth = if plan.bearer { AuthStyle::Bearer } else { AuthStyle::Default };
        config.context_window = u32::try_from(plan.context_window).ok();
        config.max_output_tokens = plan.max_output_tokens.and_then(|n| u32::try_from(n).ok());
        for (name, value) in &plan.headers {
            let value = if looks_sealed(value) {
                self.open(value)?
            } else {
                SecretText::new(value.clone())
            };
            config.headers.insert(name.clone(), value);
        }
        let loopback = plan.trusted || self.loopback_for_all;
        self.llm.provider(config, if loopback { Reach::Loopback } else { Reach::Public })
    }
}

/// Opens sealed values of MCP entries.
#[derive(Debug)]
pub struct SealedSecrets {
    sealer: Arc<Sealer>,
}

impl SealedSecrets {
    /// With a node's keys.
    #[must_use]
    pub const fn new(sealer: Arc<Sealer>) -> Self {
        Self { sealer }
    }
}

impl SealedSecrets {
    /// The value of a sealed text with its place, as plans hold it.
    pub(crate) fn reveal(&self, text: &str) -> Option<SecretText> {
        open(&self.sealer, text)
    }
}

impl SecretOpener for SealedSecrets {
    fn is_sealed(&self, value: &str) -> bool {
        looks_sealed(value)
    }

    fn open(&self, secret: SecretRef<'_>) -> Option<SecretText> {
        open(&self.sealer, secret.sealed)
    }
}

fn open(sealer: &Sealer, text: &str) -> Option<SecretText> {
    let (sealed, path) = text.split_once('@')?;
    sealer
        .open(path, sealed)
        .inspect_err(|error| tracing::warn!(%error, "a sealed secret does not open"))
        .ok()
}

#[cfg(test)]
mod tests {
    use troupe_llm::SecretKey;

    use super::*;

    #[test]
    fn a_secret_opens_only_where_it_belongs() {
        let sealer = Sealer::in_memory(&[SecretKey::new([3; 32])]);
        let sealed = sealer.seal("usr_a/Model/m/spec.key", "sk-1234").unwrap();
        let text = sealed_at(&sealed, "usr_a/Model/m/spec.key");
        assert_eq!(open(&sealer, &text).unwrap().expose(), "sk-1234");
        assert!(open(&sealer, &sealed_at(&sealed, "usr_b/Model/m/spec.key")).is_none());
    }
}
