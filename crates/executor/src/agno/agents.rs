//! The agents of a job as the runner is told of them: the Bot first, then the members of its Team.
//! Whatever may hold a secret travels as a variable of the process.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::{
    job::{McpServer, ModelAccess},
    machine::Environment,
    runtime::{Launch, StartError},
};

/// All agents; the first has the conversation with the person.
pub(super) fn agents(launch: &Launch, env: &mut Environment) -> Result<Vec<Value>, StartError> {
    let job = &launch.job;
    let Some(own) = &job.model else {
        return Err(StartError::job("model", "Agno needs a model: give the Bot one"));
    };
    let mut told = Told { launch, env, models: 0, values: 0 };
    let skills = skills(launch);
    let model = told.model("model", own)?;
    let mut agents = vec![json!({
        "name": job.bot,
        "instructions": format!("{}{skills}", job.instructions),
        "model": model,
        "mcp_servers": told.servers("mcp_servers", &job.mcp_servers)?,
    })];
    for (n, member) in job.members.iter().enumerate() {
        let field = |name: &str| format!("members.{n}.{name}");
        let own = member.model.as_ref().map(|own| told.model(&field("model"), own)).transpose()?;
        agents.push(json!({
            "name": member.name,
            "role": member.role,
            "instructions": format!("{}{skills}", member.instructions),
            "model": own.unwrap_or_else(|| model.clone()),
            "mcp_servers": told.servers(&field("mcp_servers"), &member.mcp_servers)?,
        }));
    }
    Ok(agents)
}

/// Where the skills lie.
fn skills(launch: &Launch) -> String {
    let mut all = String::new();
    if !launch.job.skills.is_empty() {
        all.push_str(
            "\n\nSkills: read the file SKILL.md of one with read_file before you use it.\n",
        );
        for skill in &launch.job.skills {
            all.push_str(&format!("- {}: {}\n", skill.name, skill.path.join("SKILL.md").display()));
        }
    }
    all
}

/// Counts the variables that were given.
struct Told<'a> {
    launch: &'a Launch,
    env: &'a mut Environment,
    models: u32,
    values: u32,
}

impl Told<'_> {
    fn model(&mut self, field: &str, model: &ModelAccess) -> Result<Value, StartError> {
        let Some(base_url) = &model.base_url else {
            let message = "Agno needs the model's address: give the Model a base_url";
            return Err(StartError::job(&format!("{field}.base_url"), message));
        };
        let variable = format!("TROUPE_MODEL_KEY_{}", self.models);
        self.models += 1;
        if !self.env.key_of(self.launch, field, model, &variable)? {
            // Local servers take any key, the client insists on one.
            self.env.set(&variable, "none");
        }
        let (id, retries) = (&model.model, model.retries);
        Ok(json!({"model": id, "base_url": base_url, "retries": retries, "key": variable}))
    }

    /// Every value is the name of the variable that has it.
    fn servers(
        &mut self,
        field: &str,
        servers: &BTreeMap<String, McpServer>,
    ) -> Result<Value, StartError> {
        let mut all = BTreeMap::new();
        for (name, server) in servers {
            let at = format!("{field}.{name}");
            let server = match server {
                McpServer::Stdio { command, args, env } => {
                    let env = self.values(&format!("{at}.env"), env)?;
                    json!({"type": "stdio", "command": command, "args": args, "env": env})
                }
                McpServer::StreamableHttp { url, headers } => {
                    let url = self.value(&format!("{at}.url"), url)?;
                    let headers = self.values(&format!("{at}.headers"), headers)?;
                    json!({"type": "http", "url": url, "headers": headers})
                }
            };
            all.insert(name, server);
        }
        Ok(json!(all))
    }

    fn values(
        &mut self,
        field: &str,
        texts: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, StartError> {
        let one = |(name, text): (&String, &String)| {
            Ok((name.clone(), self.value(&format!("{field}.{name}"), text)?))
        };
        texts.iter().map(one).collect()
    }

    fn value(&mut self, field: &str, text: &str) -> Result<String, StartError> {
        let variable = format!("TROUPE_MCP_{}", self.values);
        self.values += 1;
        self.env.filled(self.launch, field, &variable, text)?;
        Ok(variable)
    }
}
