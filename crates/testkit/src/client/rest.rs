//! The REST surface, as somebody uses it who knows nothing of the house.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};

/// Generous: a debug build on a busy two-core machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The password of every person in tests; a cluster of its own for each test.
pub const PASSWORD: &str = "correct-horse-battery";

/// A client of the REST surface.
#[derive(Clone, Debug)]
pub struct Rest {
    /// `http://HOST:PORT`.
    pub url: String,
    /// How long one call may take.
    pub patience: Duration,
    http: reqwest::Client,
}

/// Any answer.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub content_type: String,
    /// JSON; null if it is none.
    pub body: Value,
    pub text: String,
}

impl Answer {
    /// An error as the API promises it: problem+json with a code and a sentence.
    #[track_caller]
    pub fn assert_problem(&self, statuses: &[u16]) {
        let told =
            || format!("{} {}", self.status, self.text.chars().take(400).collect::<String>());
        assert!(statuses.contains(&self.status), "wanted {statuses:?}: {}", told());
        assert!(self.content_type.starts_with("application/problem+json"), "{}", told());
        assert_eq!(self.body["status"], self.status, "{}", told());
        assert!(self.body["code"].as_str().is_some_and(|c| !c.is_empty()), "{}", told());
        assert!(self.body["detail"].as_str().is_some_and(|d| d.len() > 5), "{}", told());
    }
}

impl Rest {
    /// A client of the node at `url`.
    pub fn new(url: &str) -> Result<Self> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        Ok(Self { url: url.to_owned(), patience: PATIENCE, http })
    }

    /// The same client with another limit.
    #[must_use]
    pub fn patient(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    pub async fn login(&self, name: &str) -> Result<Person> {
        let body = json!({"user_name": name, "password": PASSWORD});
        Person::of(&self.post("/api/v1/auth/login", None, &body).await?)
    }

    /// A further user, logged in.
    pub async fn user(&self, admin: &Person, name: &str) -> Result<Person> {
        let body = json!({"user_name": name, "password": PASSWORD});
        self.post("/api/v1/users", Some(admin), &body).await?;
        self.login(name).await
    }

    /// The same person by an API key, which outlives any access token.
    pub async fn with_key(&self, who: &Person) -> Result<Person> {
        let answer = self.post("/api/v1/api-keys", Some(who), &json!({"name": "tests"})).await?;
        let token = answer["key"].as_str().context("no key")?.to_owned();
        Ok(Person { token, ..who.clone() })
    }

    pub async fn post(&self, path: &str, who: Option<&Person>, body: &Value) -> Result<Value> {
        let answer = self.call("POST", path, who, Some(body)).await?;
        if !(200..300).contains(&answer.status) {
            bail!("POST {path}: {} {}", answer.status, answer.text);
        }
        Ok(answer.body)
    }

    pub async fn get(&self, path: &str, who: &Person) -> Result<Value> {
        let answer = self.call("GET", path, Some(who), None).await?;
        if !(200..300).contains(&answer.status) {
            bail!("GET {path}: {} {}", answer.status, answer.text);
        }
        Ok(answer.body)
    }

    /// Any call with a JSON body or none.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        who: Option<&Person>,
        body: Option<&Value>,
    ) -> Result<Answer> {
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        self.raw(method, path, who, body).await
    }

    /// Any call with any body.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        who: Option<&Person>,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<Answer> {
        let method = reqwest::Method::from_bytes(method.as_bytes())?;
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(who) = who {
            request = request.bearer_auth(&who.token);
        }
        if let Some((kind, bytes)) = body {
            request = request.header("content-type", kind).body(bytes);
        }
        let response = request.timeout(self.patience).send().await?;
        let status = response.status().as_u16();
        let headers = response.headers().clone();
        let kind = headers.get("content-type").and_then(|v| v.to_str().ok());
        let content_type = kind.unwrap_or_default().to_owned();
        let text = response.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok(Answer { status, headers, content_type, body, text })
    }

    /// Applies YAML to the personal namespace.
    pub async fn apply(&self, who: &Person, yaml: &str) -> Result<Value> {
        let path = "/api/v1/namespaces/default/apply";
        let body = Some(("application/yaml", yaml.as_bytes().to_vec()));
        let answer = self.raw("POST", path, Some(who), body).await?;
        if answer.status != 200 || answer.body["success"] != true {
            bail!("apply: {} {}", answer.status, answer.text);
        }
        Ok(answer.body)
    }
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub struct Person {
    pub token: String,
    pub refresh: String,
    pub name: String,
}

impl Person {
    pub fn of(answer: &Value) -> Result<Self> {
        let text = |v: &Value| v.as_str().map(str::to_owned).context("a field is missing");
        Ok(Self {
            token: text(&answer["access_token"])?,
            refresh: text(&answer["refresh_token"])?,
            name: text(&answer["user"]["user_name"])?,
        })
    }
}
