//! Calls to a node: REST with tokens that renew themselves.

mod tls;

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{Method, StatusCode, Upgraded};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tokio::sync::Mutex;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{handshake::client::generate_key, protocol::Role},
};
use troupe_api::{
    Problem,
    auth::{RefreshRequest, TokenAnswer},
};

use self::tls::{http, refused_certificate};
use crate::{
    args::GlobalArgs,
    context::{Context, Contexts, DEFAULT_URL, default_path},
    error::CliError,
};

/// For one answer; long work is followed over the stream instead.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The same with a package of 10 MiB in it.
const PACKAGE_TIMEOUT: Duration = Duration::from_secs(360);

/// Shortest and longest pause between two tries to reach the node.
pub(crate) const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// What stands for something else in a path: all but what RFC 3986 reserves for nothing.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// A node, and who one is there.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    url: String,
    login: Arc<Mutex<Login>>,
}

struct Login {
    /// Given on the command line: used as it is.
    fixed: Option<String>,
    access: String,
    refresh: String,
    /// Where renewed tokens go: file and name of the context.
    kept_in: Option<(PathBuf, String)>,
}

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login")
    }
}

/// The contexts file in use.
#[must_use]
pub fn contexts_path(args: &GlobalArgs) -> PathBuf {
    args.contexts_file.clone().unwrap_or_else(default_path)
}

impl Client {
    /// The node of the arguments, else of the context.
    ///
    /// # Errors
    /// If the contexts file cannot be read, or names no such context.
    pub fn new(args: &GlobalArgs) -> Result<Self, CliError> {
        let path = contexts_path(args);
        let contexts = Contexts::load(&path)?;
        let name = args.context.clone().unwrap_or_else(|| contexts.current.clone());
        let context = contexts.contexts.get(&name).cloned();
        if args.context.is_some() && context.is_none() {
            let known: Vec<&str> = contexts.contexts.keys().map(String::as_str).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return Err(CliError::Usage(format!("no context `{name}`; there are: {known}")));
        }
        let url = args.url.clone().or_else(|| context.as_ref().map(|c| c.url.clone()));
        let url = normal_url(url.as_deref().unwrap_or(DEFAULT_URL));
        // A token belongs to its node: another --url does not get it.
        let context = context.filter(|c| c.url == url);
        let empty = || Context {
            url: url.clone(),
            ca_file: None,
            user_name: String::new(),
            access_token: String::new(),
            refresh_token: String::new(),
        };
        let kept_in = context.as_ref().map(|_| (path, name));
        let context = context.unwrap_or_else(empty);
        let ca_file = args.ca_file.as_deref().or(context.ca_file.as_deref());
        let http = http(ca_file)?;
        let login = Login {
            fixed: args.token.clone(),
            access: context.access_token,
            refresh: context.refresh_token,
            kept_in,
        };
        Ok(Self { http, url, login: Arc::new(Mutex::new(login)) })
    }

    /// A node without a login. `ca_file`: who signed its certificate, besides the authorities of
    /// the machine.
    ///
    /// # Errors
    /// If no HTTP client can be made, or the file holds no certificate.
    pub fn anonymous(url: &str, ca_file: Option<&Path>) -> Result<Self, CliError> {
        let login =
            Login { fixed: None, access: String::new(), refresh: String::new(), kept_in: None };
        let url = url.trim_end_matches('/').to_owned();
        Ok(Self { http: http(ca_file)?, url, login: Arc::new(Mutex::new(login)) })
    }

    /// Where the node is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A token that is good now, as far as is known.
    pub async fn token(&self) -> String {
        let login = self.login.lock().await;
        login.fixed.clone().unwrap_or_else(|| login.access.clone())
    }

    /// The refresh token, for logout.
    pub async fn refresh_token(&self) -> Option<String> {
        Some(self.login.lock().await.refresh.clone()).filter(|t| !t.is_empty())
    }

    /// GET.
    ///
    /// # Errors
    /// The node's problem, or that it was not reached.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, CliError> {
        let answer = self.call(Method::GET, path, None).await?;
        read(answer)
    }

    /// POST of JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.send(Method::POST, path, body).await
    }

    /// PUT of JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.send(Method::PUT, path, body).await
    }

    async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| CliError::local("the request cannot be encoded", e))?;
        read(self.call(method, path, Some(("application/json", body))).await?)
    }

    /// POST of YAML or JSON text as it is.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post_text<T: DeserializeOwned>(
        &self,
        path: &str,
        text: Vec<u8>,
    ) -> Result<T, CliError> {
        let answer = self.call(Method::POST, path, Some(("application/yaml", text))).await?;
        read(answer)
    }

    /// POST of a ZIP.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post_package<T: DeserializeOwned>(
        &self,
        path: &str,
        package: Vec<u8>,
    ) -> Result<T, CliError> {
        let body = Some(("application/zip", package));
        read(self.call_within(PACKAGE_TIMEOUT, Method::POST, path, body).await?)
    }

    /// POST of JSON that has no answer.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn post_nothing(&self, path: &str, body: &impl Serialize) -> Result<(), CliError> {
        let body = serde_json::to_vec(body)
            .map_err(|e| CliError::local("the request cannot be encoded", e))?;
        let body = Some(("application/json", body));
        self.call(Method::POST, path, body).await.map(|_| ())
    }

    /// PATCH of JSON.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, CliError> {
        self.send(Method::PATCH, path, body).await
    }

    /// DELETE.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn delete(&self, path: &str) -> Result<(), CliError> {
        self.call(Method::DELETE, path, None).await.map(|_| ())
    }

    /// A GET whose answer comes in lines over a long time.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn lines(&self, path: &str) -> Result<reqwest::Response, CliError> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(self.token().await);
        let begun = async {
            let response = request.send().await.map_err(|e| self.unreachable(e))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            let body = response.text().await.unwrap_or_default();
            Err(CliError::Problem(Box::new(problem(status, &body))))
        };
        let late = |late| CliError::link("the node does not answer", late);
        tokio::time::timeout(TIMEOUT, begun).await.map_err(late)?
    }

    /// Opens a WebSocket, over the same TLS as everything else.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn socket(&self, path: &str) -> Result<WebSocketStream<Upgraded>, CliError> {
        let request = self
            .http
            .get(format!("{}{path}", self.url))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", generate_key());
        let response = request.send().await.map_err(|e| self.unreachable(e))?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            let body = response.text().await.unwrap_or_default();
            return Err(CliError::Problem(Box::new(problem(status, &body))));
        }
        let raw = response.upgrade().await.map_err(|e| self.unreachable(e))?;
        Ok(WebSocketStream::from_raw_socket(raw, Role::Client, None).await)
    }

    /// A call whose answer is long and comes as it is made; its body has no deadline.
    ///
    /// # Errors
    /// As [`get`](Self::get).
    pub async fn download(
        &self,
        method: Method,
        path: &str,
    ) -> Result<reqwest::Response, CliError> {
        let mut renewed = false;
        loop {
            let token = self.token().await;
            let request = self.http.request(method.clone(), format!("{}{path}", self.url));
            let request = request.bearer_auth(&token);
            let response = match tokio::time::timeout(TIMEOUT, request.send()).await {
                Ok(response) => response.map_err(|e| self.unreachable(e))?,
                Err(late) => return Err(CliError::link("the node does not answer", late)),
            };
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            if status == StatusCode::UNAUTHORIZED && !renewed && self.renew(&token).await? {
                renewed = true;
                continue;
            }
            let body = response.text().await.unwrap_or_default();
            return Err(CliError::Problem(Box::new(problem(status, &body))));
        }
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<String, CliError> {
        self.call_within(TIMEOUT, method, path, body).await
    }

    async fn call_within(
        &self,
        time_max: Duration,
        method: Method,
        path: &str,
        body: Option<(&str, Vec<u8>)>,
    ) -> Result<String, CliError> {
        let mut renewed = false;
        loop {
            let token = self.token().await;
            let mut request = self.http.request(method.clone(), format!("{}{path}", self.url));
            if !token.is_empty() {
                request = request.bearer_auth(&token);
            }
            if let Some((kind, body)) = &body {
                request = request.header("content-type", *kind).body(body.clone());
            }
            let response =
                request.timeout(time_max).send().await.map_err(|e| self.unreachable(e))?;
            let status = response.status();
            let text = response.text().await.map_err(|e| self.unreachable(e))?;
            if status.is_success() {
                return Ok(text);
            }
            if status == StatusCode::UNAUTHORIZED && !renewed && self.renew(&token).await? {
                renewed = true;
                continue;
            }
            return Err(CliError::Problem(Box::new(problem(status, &text))));
        }
    }

    /// Gets a fresh access token; `false`: there is nothing to get one with.
    ///
    /// # Errors
    /// If the node is not reached or the contexts file cannot be written.
    pub async fn renew(&self, stale: &str) -> Result<bool, CliError> {
        let mut login = self.login.lock().await;
        if login.fixed.is_some() {
            return Ok(false);
        }
        // Another invocation may have renewed it meanwhile: refresh tokens rotate.
        if let Some((path, name)) = login.kept_in.clone()
            && let Some(context) = Contexts::load(&path)?.contexts.get(&name)
        {
            login.refresh.clone_from(&context.refresh_token);
            if context.access_token != stale {
                login.access.clone_from(&context.access_token);
                return Ok(true);
            }
        }
        if login.refresh.is_empty() {
            return Ok(false);
        }
        let body = RefreshRequest { refresh_token: Some(login.refresh.clone()) };
        let response = self
            .http
            .post(format!("{}/api/v1/auth/refresh", self.url))
            .json(&body)
            .timeout(TIMEOUT)
            .send()
            .await
            .map_err(|e| self.unreachable(e))?;
        let status = response.status();
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            // It says nothing about the token.
            let body = response.text().await.map_err(|e| self.unreachable(e))?;
            return Err(CliError::Problem(Box::new(problem(status, &body))));
        }
        if !status.is_success() {
            return Ok(false);
        }
        let answer: TokenAnswer = response.json().await.map_err(|e| self.unreachable(e))?;
        login.access = answer.access_token;
        login.refresh = answer.refresh_token.unwrap_or_default();
        if let Some((path, name)) = &login.kept_in {
            let mut contexts = Contexts::load(path)?;
            if let Some(context) = contexts.contexts.get_mut(name) {
                context.access_token.clone_from(&login.access);
                context.refresh_token.clone_from(&login.refresh);
                contexts.save(path)?;
            }
        }
        Ok(true)
    }

    /// Makes good what a call failed with, as far as that is possible: a token that is over is
    /// renewed. After `Ok` it may be repeated.
    ///
    /// # Errors
    /// What repeating cannot mend.
    pub async fn mend(&self, error: CliError) -> Result<(), CliError> {
        let error = match error {
            CliError::Problem(problem) if problem.status == 401 => {
                match self.renew(&self.token().await).await {
                    Ok(true) => return Ok(()),
                    Ok(false) => CliError::Problem(problem),
                    Err(error) => error,
                }
            }
            error => error,
        };
        if error.is_transient() { Ok(()) } else { Err(error) }
    }

    fn unreachable(&self, source: reqwest::Error) -> CliError {
        let url = self.url.clone();
        if let Some(why) = refused_certificate(&source) {
            return CliError::Untrusted { url, why, source };
        }
        CliError::Unreachable { url, source }
    }
}

/// An address as people write it: without a scheme it is HTTPS, but for this machine's own.
pub(crate) fn normal_url(url: &str) -> String {
    let url = url.trim_end_matches('/');
    if url.contains("://") {
        return url.to_owned();
    }
    let host = url.strip_prefix('[').and_then(|rest| rest.split(']').next());
    let host = host.unwrap_or_else(|| url.split([':', '/']).next().unwrap_or_default());
    let is_own = host == "localhost" || host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
    format!("{}://{url}", if is_own { "http" } else { "https" })
}

fn problem(status: StatusCode, body: &str) -> Problem {
    if status.is_redirection() {
        let detail = format!(
            "the node answered {status}: this address leads elsewhere; give the one at the end, \
             perhaps it begins with https://"
        );
        return Problem::new(status.as_u16(), "redirected", detail);
    }
    serde_json::from_str(body).unwrap_or_else(|_| {
        let text: String = body.chars().take(200).collect();
        Problem::new(status.as_u16(), "http", format!("the node answered {status}: {text}"))
    })
}

fn read<T: DeserializeOwned>(answer: String) -> Result<T, CliError> {
    let text = if answer.is_empty() { Value::Null.to_string() } else { answer };
    serde_json::from_str(&text).map_err(|e| CliError::local("the node's answer made no sense", e))
}

/// Encodes one segment of a path.
#[must_use]
pub fn segment(text: &str) -> String {
    utf8_percent_encode(text, ESCAPED).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_without_a_scheme_is_https_beyond_this_machine() {
        for (written, meant) in [
            ("127.0.0.1:8080", "http://127.0.0.1:8080"),
            ("localhost:8080/", "http://localhost:8080"),
            ("[::1]:8080", "http://[::1]:8080"),
            ("troupe.example.org", "https://troupe.example.org"),
            ("10.0.0.1:8080", "https://10.0.0.1:8080"),
            ("http://10.0.0.1:8080/", "http://10.0.0.1:8080"),
        ] {
            assert_eq!(normal_url(written), meant);
        }
    }
}
