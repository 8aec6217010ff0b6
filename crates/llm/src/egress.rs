//! The rule for outgoing connections of the node: which addresses it may connect to.
//!
//! A name is resolved once, by the client itself, through a resolver that lets through only
//! addresses that pass; so the client connects to the very address that was checked. Literal
//! addresses never reach a resolver: [`Egress::check_url`] looks at them, and at every redirect.
//! Proxies of the environment are ignored.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use futures::future::BoxFuture;
use ipnet::IpNet;
use reqwest::{
    Client, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    redirect,
};

mod address;

pub use address::AddressClass;

/// Longest wait for a name to be resolved.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection is not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The address is of a class that is closed and not on the allow list.
    #[error("{host} is a {class} address; add it to egress.allow to permit it")]
    Refused {
        /// The name or address asked for.
        host: String,
        /// What kind of address it is.
        class: AddressClass,
    },
    /// The host is on the allow list with other ports.
    #[error("{host} is allowed on other ports only, not on {port}")]
    Port {
        /// The host.
        host: String,
        /// The port asked for.
        port: u16,
    },
    /// No usable URL.
    #[error("url is refused: {detail}")]
    Url {
        /// What is wrong with it.
        detail: String,
    },
    /// A redirect to another origin, or too many of them.
    #[error("redirect is refused: {detail}")]
    Redirect {
        /// What is wrong with it.
        detail: String,
    },
    /// The name has no address.
    #[error("name {host} cannot be resolved")]
    Unresolved {
        /// The name.
        host: String,
    },
    /// The client could not be made.
    #[error("http client cannot be made: {detail}")]
    Client {
        /// Why.
        detail: String,
    },
}

/// One entry of `egress.allow`: `10.1.0.0/16`, `10.1.2.3`, `models.lan`, `models.lan:8000`,
/// `10.1.2.3:8000`, `[fd00::1]:8000`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AllowRule {
    /// All addresses of a net, on every port.
    Net(IpNet),
    /// A host, whatever its addresses are. With a port, that port only: any other port of this
    /// host is refused.
    Host {
        /// Lower case; a literal IPv6 address without brackets.
        host: String,
        /// The port, or all.
        port: Option<u16>,
    },
}

impl FromStr for AllowRule {
    type Err = EgressError;

    fn from_str(text: &str) -> Result<Self, EgressError> {
        let text = text.trim();
        if let Ok(net) = text.parse::<IpNet>() {
            return Ok(Self::Net(net));
        }
        if let Ok(ip) = text.parse::<IpAddr>() {
            return Ok(Self::Net(IpNet::from(ip)));
        }
        if let Ok(addr) = text.parse::<SocketAddr>() {
            return Ok(Self::Host { host: addr.ip().to_string(), port: Some(addr.port()) });
        }
        let bad = || EgressError::Url { detail: format!("no allow rule: {text}") };
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse().map_err(|_| bad())?)),
            None => (text, None),
        };
        let usual = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
        if host.is_empty() || !host.chars().all(usual) {
            return Err(bad());
        }
        Ok(Self::Host { host: plain_host(host), port })
    }
}

/// What is open beyond public addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// From `egress.allow`.
    pub allow: Vec<AllowRule>,
    /// Loopback addresses are open (local models).
    pub allow_loopback: bool,
}

/// How a client behaves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientOptions {
    /// For the connection, TLS included.
    pub connect_timeout: Duration,
    /// An idle connection is closed after this.
    pub pool_idle_timeout: Duration,
    /// Most redirects in a row.
    pub redirects_max: usize,
    /// Whether a redirect may lead to another origin. Off where headers carry a key.
    pub cross_origin: bool,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            pool_idle_timeout: Duration::from_secs(60),
            redirects_max: 5,
            cross_origin: false,
        }
    }
}

type Lookup = Arc<dyn Fn(String) -> BoxFuture<'static, Vec<IpAddr>> + Send + Sync>;

/// The rule in force; cheap to clone.
#[derive(Clone)]
pub struct Egress {
    policy: Arc<EgressPolicy>,
    lookup: Lookup,
}

impl fmt::Debug for Egress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Egress").field("policy", &self.policy).finish_non_exhaustive()
    }
}

impl Egress {
    /// The rule with the system's resolver.
    #[must_use]
    pub fn new(policy: EgressPolicy) -> Self {
        Self { policy: Arc::new(policy), lookup: Arc::new(|host| Box::pin(system_lookup(host))) }
    }

    /// The same rule with loopback open.
    #[must_use]
    pub fn with_loopback(&self) -> Self {
        let policy = EgressPolicy { allow_loopback: true, ..(*self.policy).clone() };
        Self { policy: Arc::new(policy), lookup: Arc::clone(&self.lookup) }
    }

    #[cfg(test)]
    fn with_lookup(mut self, lookup: impl Fn(&str) -> Vec<IpAddr> + Send + Sync + 'static) -> Self {
        self.lookup = Arc::new(move |host| {
            let found = lookup(&host);
            Box::pin(async move { found })
        });
        self
    }

    /// Reads a URL and checks it.
    ///
    /// # Errors
    /// As [`check_url`](Self::check_url).
    pub fn parse(&self, text: &str) -> Result<Url, EgressError> {
        let url = Url::parse(text).map_err(|e| EgressError::Url { detail: e.to_string() })?;
        self.check_url(&url)?;
        Ok(url)
    }

    /// Checks what can be known without resolving: scheme, literal address, allowed port. Must
    /// be called for the first URL of every request; redirects are checked by the client.
    ///
    /// # Errors
    /// `Url`, `Refused`, `Port`.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EgressError::Url { detail: format!("scheme {}", url.scheme()) });
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EgressError::Url { detail: "it holds a user or a password".into() });
        }
        let host = plain_host(url.host_str().unwrap_or_default());
        let Some(port) = url.port_or_known_default().filter(|_| !host.is_empty()) else {
            return Err(EgressError::Url { detail: "it has no host".into() });
        };
        let mut named = false;
        for rule in &self.policy.allow {
            match rule {
                AllowRule::Host { host: h, port: p } if *h == host => {
                    if p.is_none_or(|p| p == port) {
                        return Ok(());
                    }
                    named = true;
                }
                AllowRule::Host { .. } | AllowRule::Net(_) => {}
            }
        }
        if named {
            return Err(EgressError::Port { host, port });
        }
        match host.parse::<IpAddr>() {
            Ok(ip) => self.check_addr(ip, &host),
            Err(_) => Ok(()), // The resolver of the client decides.
        }
    }

    /// Checks one address that `host` stands for.
    ///
    /// # Errors
    /// `Refused`.
    pub fn check_addr(&self, ip: IpAddr, host: &str) -> Result<(), EgressError> {
        let class = AddressClass::of(ip);
        let open = match class {
            AddressClass::Public => true,
            AddressClass::Loopback => self.policy.allow_loopback,
            _ => false,
        };
        let listed = || {
            self.policy.allow.iter().any(|rule| match rule {
                AllowRule::Net(net) => net.contains(&ip),
                AllowRule::Host { .. } => false,
            })
        };
        if open || listed() {
            return Ok(());
        }
        Err(EgressError::Refused { host: host.to_owned(), class })
    }

    /// A client that keeps the rule. Check the first URL with
    /// [`check_url`](Self::check_url): a literal address in it reaches no resolver.
    ///
    /// On a machine without root certificates the client works for `http` and refuses `https`.
    ///
    /// # Errors
    /// `Client`.
    pub fn client(&self, options: &ClientOptions) -> Result<Client, EgressError> {
        let builder = || {
            Client::builder()
                .no_proxy()
                .referer(false)
                .user_agent(concat!("troupe/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(options.connect_timeout)
                .pool_idle_timeout(options.pool_idle_timeout)
                .redirect(self.redirects(options))
                .dns_resolver(Arc::new(CheckedResolver(self.clone())))
        };
        builder().build().or_else(|error| {
            tracing::warn!(error = %chain(&error), "no root certificates found, https will fail");
            let bare = builder().tls_certs_only(std::iter::empty());
            bare.build().map_err(|error| EgressError::Client { detail: chain(&error) })
        })
    }

    fn redirects(&self, options: &ClientOptions) -> redirect::Policy {
        let egress = self.clone();
        let ClientOptions { redirects_max, cross_origin, .. } = *options;
        redirect::Policy::custom(move |attempt| {
            match egress.check_redirect(
                attempt.previous(),
                attempt.url(),
                redirects_max,
                cross_origin,
            ) {
                Ok(()) => attempt.follow(),
                Err(error) => attempt.error(error),
            }
        })
    }

    fn check_redirect(
        &self,
        previous: &[Url],
        next: &Url,
        redirects_max: usize,
        cross_origin: bool,
    ) -> Result<(), EgressError> {
        let refused = |detail: &str| Err(EgressError::Redirect { detail: detail.to_owned() });
        if previous.len() > redirects_max {
            return refused("too many in a row");
        }
        let last = previous.last().unwrap_or(next);
        if !cross_origin && last.origin() != next.origin() {
            return refused("it leads to another origin");
        }
        if last.scheme() == "https" && next.scheme() != "https" {
            return refused("it leaves https");
        }
        self.check_url(next)
    }

    /// The addresses of `host` that pass.
    async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, EgressError> {
        let plain = plain_host(host);
        // The port was checked with the URL; here a listed host is open whatever its address.
        let listed = self
            .policy
            .allow
            .iter()
            .any(|rule| matches!(rule, AllowRule::Host { host, .. } if *host == plain));
        let found = tokio::time::timeout(RESOLVE_TIMEOUT, (self.lookup)(plain.clone())).await;
        let mut refused = EgressError::Unresolved { host: plain.clone() };
        let mut open = Vec::new();
        for ip in found.unwrap_or_default() {
            match self.check_addr(ip, &plain) {
                Err(error) if !listed => refused = error,
                _ => open.push(SocketAddr::new(ip, 0)),
            }
        }
        if open.is_empty() { Err(refused) } else { Ok(open) }
    }
}

struct CheckedResolver(Egress);

impl Resolve for CheckedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let egress = self.0.clone();
        Box::pin(async move {
            let open = egress.resolve(name.as_str()).await?;
            Ok(Box::new(open.into_iter()) as Addrs)
        })
    }
}

async fn system_lookup(host: String) -> Vec<IpAddr> {
    match tokio::net::lookup_host((host.as_str(), 0)).await {
        Ok(found) => found.map(|addr| addr.ip()).collect(),
        Err(error) => {
            tracing::debug!(error = %error, "name lookup failed");
            Vec::new()
        }
    }
}

/// A host as rules compare it: lower case, no brackets, no last dot.
fn plain_host(host: &str) -> String {
    host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_lowercase()
}

/// An error of the client that was caused by the rule.
pub(crate) fn refusal_in(error: &reqwest::Error) -> Option<EgressError> {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if let Some(refusal) = error.downcast_ref::<EgressError>() {
            return Some(refusal.clone());
        }
        cause = error.source();
    }
    None
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
