//! What an operator may set.

use std::{fmt, net::IpAddr, time::Duration};

use troupe_types::limits;

/// Settings of the gateway. Durations and limits have the values of the design by default.
#[derive(Clone)]
pub struct GatewayOptions {
    /// Host names and addresses under which the node may be asked, besides loopback names and
    /// the address of the listener. Without port, lower case; `*.example.org` stands for one
    /// label.
    pub public_hosts: Vec<String>,
    /// Addresses of the listener.
    pub listen: Vec<IpAddr>,
    /// People reach it over https (own certificate, or a proxy): cookies are `Secure`.
    pub https: bool,
    /// A proxy is in front of the listener: whom it speaks for is the last of `X-Forwarded-For`.
    pub proxied: bool,
    /// Besides administrators, whoever shows this may read `/metrics`.
    pub scrape_token: Option<String>,
    /// The scripted demo model answers.
    pub demo: bool,
    /// The node has the role `gateway`. Without it, it answers probes and scrapers only.
    pub serves_people: bool,
    /// Largest request body and socket message, in bytes.
    pub payload_max: usize,
    /// How long a request may take until its answer begins.
    pub request_timeout: Duration,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// Sockets at once; further ones are refused.
    pub sockets_max: usize,
    /// From the end of its token until a socket is closed.
    pub expiry_grace: Duration,
    /// How long a socket may leave no room for one more message before it leaves its room.
    pub slow_after: Duration,
    /// Heartbeat of sockets.
    pub ping_interval: Duration,
    /// How long its answer may take.
    pub ping_timeout: Duration,
    /// Frames that a room keeps for its slowest viewer.
    pub room_frames: usize,
    /// The same in bytes.
    pub room_bytes: usize,
    /// Bytes kept by all rooms together; above it each room keeps a sixteenth of `room_bytes`.
    pub rooms_bytes: usize,
}

impl Default for GatewayOptions {
    fn default() -> Self {
        Self {
            public_hosts: Vec::new(),
            listen: Vec::new(),
            https: false,
            proxied: false,
            scrape_token: None,
            demo: false,
            serves_people: true,
            payload_max: limits::PAYLOAD_BYTES_MAX,
            request_timeout: Duration::from_secs(60),
            body_timeout: Duration::from_secs(30),
            sockets_max: 19_000,
            expiry_grace: Duration::from_secs(30),
            slow_after: Duration::from_secs(10),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            room_frames: 16_384,
            room_bytes: limits::RESUME_BYTES_MAX,
            rooms_bytes: 256 * 1024 * 1024,
        }
    }
}

impl fmt::Debug for GatewayOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GatewayOptions")
            .field("public_hosts", &self.public_hosts)
            .field("listen", &self.listen)
            .field("https", &self.https)
            .field("demo", &self.demo)
            .field("serves_people", &self.serves_people)
            .finish_non_exhaustive()
    }
}
