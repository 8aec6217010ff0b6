//! A node with a certificate of its own: from its setup link to a streamed answer, over HTTPS alone.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use reqwest::{Certificate, Client};
use serde_json::json;

use crate::{
    cli::at,
    node::{Home, Node, NodeOptions, PASSWORD},
};

/// Writes `ca.pem`, `node.crt` and `node.key`; the latter two are for 127.0.0.1.
fn certificate(home: &Home) -> Result<[PathBuf; 3]> {
    let mut params = rcgen::CertificateParams::new(Vec::new())?;
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let key = rcgen::KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let issuer = rcgen::Issuer::new(params, key);
    let key = rcgen::KeyPair::generate()?;
    let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned()])?;
    let certificate = params.signed_by(&key, &issuer)?.pem();
    let files = ["ca.pem", "node.crt", "node.key"].map(|name| home.path().join(name));
    for (file, text) in files.iter().zip([authority, certificate, key.serialize_pem()]) {
        fs::write(file, text)?;
    }
    Ok(files)
}

fn with(files: &[PathBuf; 3]) -> NodeOptions {
    let [_, cert, key] = files.clone().map(|file| file.display().to_string());
    let args = ["--tls-cert", &cert, "--tls-key", &key].map(str::to_owned).to_vec();
    NodeOptions { args, ..NodeOptions::default() }
}

#[tokio::test]
async fn from_setup_to_an_answer_over_https() -> Result<()> {
    let home = Home::new()?;
    let files = certificate(&home)?;
    let node = Node::start_with(&home, &with(&files)).await?;
    let me = at(&home, &node);
    let url = me.url.clone();
    assert!(url.starts_with("https://127.0.0.1:"), "{url}");
    let token = node.setup_token.clone().context("no setup token")?;
    assert!(home.log().contains(&format!("{url}/setup#")), "the link is one of HTTPS");

    let password = format!("{PASSWORD}\n");
    let setup = ["setup", &token, "--url", &url, "--password-stdin"];
    let untrusted = me.pipe(&setup, &password).await?.fails(6);
    assert!(untrusted.contains("does not trust") && untrusted.contains("--ca-file"), "{untrusted}");
    let trusted = [&setup[..], &["--ca-file", "ca.pem"]].concat();
    me.pipe(&trusted, &password).await?.ok();
    // Who signed the certificate is remembered, from whatever directory and by later logins.
    let answer = me.say(&["run", "What can you do?", "--team", "assistant"]).await?.ok();
    assert!(answer.len() > 20, "{answer}");
    me.login().await?;
    me.listed(&[]).await?;

    let plain = url.replace("https://", "http://");
    let told = me.say(&["ls", "--url", &plain, "--token", "x"]).await?.fails(1);
    assert!(told.contains("write https://"), "{told}");
    let told = me.say(&["ls", "--ca-file", "node.key"]).await?.fails(2);
    assert!(told.contains("node.key holds no certificate"), "{told}");

    let authority = Certificate::from_pem(&fs::read(&files[0])?)?;
    let browser = Client::builder().tls_certs_only([authority]).build()?;
    let body = json!({"user_name": "admin", "password": PASSWORD, "transport": "cookie"});
    let login = browser.post(format!("{url}/api/v1/auth/login")).json(&body).send().await?;
    let cookie = login.headers().get("set-cookie").context("no cookie")?.to_str()?.to_owned();
    assert!(cookie.contains("; Secure"), "the browser sends it over HTTPS alone");
    assert_eq!(node.terminate().await?, Some(0));
    Ok(())
}

#[tokio::test]
async fn a_certificate_that_cannot_be_used_is_told_before_anything_starts() -> Result<()> {
    let home = Home::new()?;
    let files = certificate(&home)?;
    let refused = async |options: NodeOptions| -> Result<String> {
        let attempt = Node::attempt(&home, &options).await?;
        let refused = attempt.err().context("it came up")?;
        assert_ne!(refused.code, Some(0));
        Ok(refused.text)
    };
    let half = NodeOptions::default().env("TROUPE__TLS__CERT_FILE", files[1].display());
    assert!(refused(half).await?.contains("tls: a cert-file and a key-file go together"));
    let two = with(&files).env("TROUPE__TLS__PROXY", true);
    assert!(refused(two).await?.contains("tls.proxy: either a proxy"));
    let other = rcgen::KeyPair::generate()?.serialize_pem();
    fs::write(&files[2], other)?;
    let told = refused(with(&files)).await?;
    assert!(told.contains("node.crt is no certificate for") && told.contains("node.key"), "{told}");
    Ok(())
}
