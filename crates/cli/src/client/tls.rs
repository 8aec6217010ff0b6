//! The HTTP client of a node, and whom it trusts.

use std::{path::Path, time::Duration};

use reqwest::{Certificate, redirect::Policy};

use crate::error::CliError;

fn authorities(file: &Path) -> Result<Vec<Certificate>, CliError> {
    let name = file.display();
    let pem = std::fs::read(file)
        .map_err(|e| CliError::local(format!("--ca-file: cannot read {name}"), e))?;
    let certs = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certs.is_empty() {
        return Err(CliError::Usage(format!("--ca-file: {name} holds no certificate in PEM")));
    }
    Ok(certs)
}

/// The client of a node: over HTTP/1.1, to where it is sent and no further.
pub(super) fn http(ca_file: Option<&Path>) -> Result<reqwest::Client, CliError> {
    let authorities = ca_file.map(authorities).transpose()?;
    reqwest::Client::builder()
        // Sockets begin as requests, which a connection of HTTP/2 does not let go.
        .http1_only()
        // What a redirect would carry on are passwords and tokens.
        .redirect(Policy::none())
        .tls_certs_merge(authorities.unwrap_or_default())
        .connect_timeout(Duration::from_secs(10))
        .user_agent(concat!("troupe/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| CliError::local("no HTTP client can be made", e))
}

/// Why the node's certificate was refused, if it was. The type of the cause is that of the TLS
/// library below the client, which only its words tell apart.
pub(super) fn refused_certificate(error: &reqwest::Error) -> Option<String> {
    let mut cause: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = cause {
        let text = error.to_string();
        if text.contains("invalid peer certificate") && text.contains("UnknownIssuer") {
            let way_out = "this machine does not trust who signed it; if that is the right node, \
                           give its authority with --ca-file FILE";
            return Some(way_out.to_owned());
        }
        if text.contains("invalid peer certificate") {
            return Some(text);
        }
        cause = error.source();
    }
    None
}
