//! Which Model a member uses.

use super::{CHOICE, DifyPlan, ResolveError, ResolvedModel, Resolver, secret_ref, split_secrets};
use crate::{
    kind::Kind,
    lookup::{Found, find_for},
    public::DEMO_MODEL,
    resource::{DEFAULT_NAMESPACE, Owner, ResourceKey},
    secret,
    spec::{ApiFormat, Auth, ModelEnv, ModelSpec, ModelType, NameRef, Provider, ShellType},
};

/// Tokens of a Model that does not say how many it takes.
const CONTEXT_WINDOW: u64 = 128_000;
const ENV: &str = "spec.modelConfig.env";
/// Where a Bot names its Model.
const NAMED: &str = "spec.modelRef.name";

impl Resolver<'_> {
    /// The Bot's Model, else the Task's choice, else (in Chat) the caller's default, else `demo`.
    ///
    /// A runtime on a device goes without: it has a login of its own.
    pub(super) fn model(
        &self,
        bot: &Found,
        named: Option<&NameRef>,
        shell: &Found,
    ) -> Result<Option<ResolvedModel>, ResolveError> {
        let chosen = self.options.model.as_ref();
        let found = match (named, chosen) {
            (None, Some(choice)) => Some((self.chosen(bot, choice)?, CHOICE)),
            (Some(_), Some(choice)) if self.options.force_model => {
                Some((self.chosen(bot, choice)?, CHOICE))
            }
            (Some(named), _) => Some((self.named(bot, Kind::Model, named, NAMED)?, NAMED)),
            (None, None) => None,
        };
        let chat = shell.resource.shell()?.shell_type == ShellType::Chat;
        let found = match found {
            None if chat => Some((self.fall_back(bot)?, NAMED)),
            found => found,
        };
        found.map(|(found, path)| fitting(&found, shell, bot, path)).transpose()
    }

    /// What the caller chose for the Task, as the caller means it.
    fn chosen(&self, bot: &Found, choice: &NameRef) -> Result<Found, ResolveError> {
        let (namespace, name) = (choice.namespace.clone(), choice.name.clone());
        find_for(self.lookup, self.caller, Kind::Model, &namespace, &name).ok_or_else(|| {
            ResolveError::Missing {
                by: bot.resource.key().into(),
                missing: Box::new(ResourceKey { kind: Kind::Model, namespace, name }),
                path: CHOICE.to_owned(),
            }
        })
    }

    fn fall_back(&self, bot: &Found) -> Result<Found, ResolveError> {
        if let Some(found) = self.lookup.default_model() {
            return Ok(found);
        }
        let public = Found { owner: Owner::Public, resource: bot.resource.clone() };
        self.find(&public, Kind::Model, (DEFAULT_NAMESPACE, DEMO_MODEL), NAMED)
    }
}

/// The Model, if the Shell accepts it.
fn fitting(
    found: &Found,
    shell: &Found,
    bot: &Found,
    path: &str,
) -> Result<ResolvedModel, ResolveError> {
    let spec = found.resource.model()?;
    if spec.model_type != ModelType::Llm {
        return Err(ResolveError::ModelType {
            by: bot.resource.key().into(),
            path: path.to_owned(),
            model: found.resource.key().into(),
            model_type: spec.model_type.to_string(),
        });
    }
    let model = resolved(found, spec);
    let allowed = shell.resource.shell()?.support_model;
    let provider = model.provider.map_or("dify", Provider::as_str);
    if !allowed.is_empty() && !allowed.iter().any(|other| other == provider) {
        return Err(ResolveError::ModelNotSupported {
            by: bot.resource.key().into(),
            path: path.to_owned(),
            shell: shell.resource.key().into(),
            model: found.resource.key().into(),
            provider: provider.to_owned(),
            allowed,
        });
    }
    Ok(model)
}

fn resolved(found: &Found, spec: ModelSpec) -> ResolvedModel {
    let masks = secret::masks(&found.resource);
    let env = spec.model_config.env;
    let secret = |field: &str| {
        let path = format!("{ENV}.{field}");
        masks.contains_key(&path).then(|| secret_ref(found, path))
    };
    let (headers, secret_headers) =
        split_secrets(found, &masks, &format!("{ENV}.custom_headers"), &env.custom_headers);
    let metadata = &found.resource.metadata;
    ResolvedModel {
        owner: found.owner.clone(),
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
        display_name: metadata.shown_name().to_owned(),
        provider: env.provider,
        protocol: spec.protocol.unwrap_or_else(|| protocol(env.provider, spec.api_format)),
        api_format: spec.api_format,
        // A provider that demands an id was refused without one; `demo` has one model.
        model_id: env.model_id.clone().unwrap_or_else(|| metadata.name.clone()),
        api_key: secret("api_key"),
        bearer: env.auth == Some(Auth::Bearer),
        headers,
        secret_headers,
        context_window: spec.model_config.context_window.unwrap_or(CONTEXT_WINDOW),
        max_output_tokens: spec.model_config.max_output_tokens,
        thinking: spec.model_config.thinking,
        thinking_tokens: spec.model_config.thinking_tokens,
        supports_image: spec.model_capabilities.is_some_and(|can| can.supports_image),
        haiku_model: env.haiku_model.clone(),
        sonnet_model: env.sonnet_model.clone(),
        opus_model: env.opus_model.clone(),
        dify: secret("DIFY_API_KEY").map(|api_key| dify(&env, api_key)),
        base_url: env.base_url,
    }
}

fn dify(env: &ModelEnv, api_key: super::SecretRef) -> DifyPlan {
    DifyPlan {
        api_key,
        base_url: env.dify_base_url.clone(),
        app_id: env.dify_app_id.clone(),
        params: env.dify_params.clone(),
    }
}

/// The API that a provider speaks if the Model names none.
fn protocol(provider: Option<Provider>, format: ApiFormat) -> String {
    match (provider, format) {
        (Some(Provider::OpenAi), ApiFormat::Responses) => "openai-responses",
        (Some(provider), _) => provider.as_str(),
        (None, _) => "dify",
    }
    .to_owned()
}
