use super::*;

fn egress(allow: &[&str], allow_loopback: bool) -> Egress {
    let allow = allow.iter().map(|rule| rule.parse().unwrap()).collect();
    Egress::new(EgressPolicy { allow, allow_loopback })
}

#[test]
fn addresses_have_their_class() {
    use AddressClass as C;
    for (class, addresses) in [
        (
            C::Public,
            "1.1.1.1 8.8.8.8 100.63.255.255 100.128.0.1 172.15.0.1 172.32.0.1 192.167.1.1 169.253.1.1 223.255.255.255 2606:4700::1111 2a00::1 2001:4860:4860::8888",
        ),
        (C::Loopback, "127.0.0.1 127.255.255.254 ::1"),
        (
            C::Private,
            "10.0.0.0 10.255.255.255 172.16.0.1 172.31.255.255 192.168.0.1 fc00::1 fdff::1 fec0::1",
        ),
        (C::Shared, "100.64.0.0 100.127.255.255"),
        (C::LinkLocal, "169.254.0.1 169.254.169.254 fe80::1 febf::1"),
        (C::Multicast, "224.0.0.1 239.255.255.255 255.255.255.255 ff02::1"),
        (C::Unspecified, "0.0.0.0 0.1.2.3 ::"),
        (
            C::Embedded,
            "::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8 ::127.0.0.1 64:ff9b::7f00:1 64:ff9b::808:808 64:ff9b:1::1 2002:7f00:1:: 2001:0:1::1",
        ),
        (
            C::Reserved,
            "192.0.0.1 192.0.2.1 198.18.0.1 198.51.100.1 203.0.113.1 240.0.0.1 2001:db8::1 100::1 4000::1",
        ),
    ] {
        for address in addresses.split(' ') {
            assert_eq!(C::of(address.parse().unwrap()), class, "{address}");
        }
    }
}

#[test]
fn urls_are_refused_whatever_the_spelling() {
    let closed = egress(&[], false);
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::a00:1]/",
        "http://0/",
        "http://10.0.0.1:8000/v1",
        "https://192.168.1.1/",
        "http://169.254.169.254/latest/meta-data",
        "http://[fe80::1]/",
        "http://[fd00::1]/",
        "http://100.64.0.1/",
        "http://224.0.0.1/",
        "ftp://1.1.1.1/",
        "file:///etc/passwd",
        "http://user:pass@example.org/",
        "http://user@example.org/",
        "data:,x",
        "http://１２７.0.0.1/",
    ] {
        assert!(closed.parse(url).is_err(), "{url}");
    }
    for url in ["https://api.example.org/v1", "http://8.8.8.8:8000/", "https://[2606:4700::1]/"] {
        assert_eq!(closed.parse(url).map(|_| ()), Ok(()), "{url}");
    }
}

#[test]
fn the_allow_list_opens_what_it_names() {
    let open = egress(
        &["10.1.0.0/16", "192.168.1.7:8000", "models.lan:8000", "[fd00::1]:80", "fd01::/16"],
        true,
    );
    for (url, ok) in [
        ("http://10.1.2.3/", true),
        ("http://10.2.2.3/", false),
        ("http://192.168.1.7:8000/", true),
        ("http://192.168.1.7:8001/", false),
        ("http://192.168.1.8:8000/", false),
        ("http://models.lan:8000/", true),
        ("http://MODELS.lan.:8000/", true),
        ("http://models.lan/", false),
        ("http://[fd00::1]/", true),
        ("http://[fd00::1]:81/", false),
        ("http://[fd01::5]:81/", true),
        ("http://127.0.0.1:9/", true),
        ("http://[::1]:9/", true),
        ("http://[::ffff:127.0.0.1]/", false),
        ("http://0.0.0.0/", false),
    ] {
        assert_eq!(open.parse(url).is_ok(), ok, "{url}");
    }
    assert!("models lan".parse::<AllowRule>().is_err());
    assert!("models.lan:x".parse::<AllowRule>().is_err());
    assert!("http://models.lan/x".parse::<AllowRule>().is_err());
    assert!("".parse::<AllowRule>().is_err());
}

#[test]
fn redirects_are_checked() {
    let closed = egress(&[], false);
    let url = |text: &str| Url::parse(text).unwrap();
    let check = |from: &str, to: &str, cross| {
        closed.check_redirect(&[url(from)], &url(to), 5, cross).is_ok()
    };
    assert!(check("https://a.example/x", "https://a.example/y", false));
    assert!(!check("https://a.example/x", "https://b.example/y", false));
    assert!(check("https://a.example/x", "https://b.example/y", true));
    assert!(!check("https://a.example/x", "http://b.example/y", true));
    assert!(!check("http://a.example/x", "http://127.0.0.1/y", true));
    assert!(!check("http://a.example/x", "http://169.254.169.254/y", true));
    let many = vec![url("https://a.example/"); 6];
    assert!(closed.check_redirect(&many, &url("https://a.example/"), 5, true).is_err());
}

#[tokio::test]
async fn only_addresses_that_pass_are_connected_to() {
    let lookup = |host: &str| match host {
        "mixed.example" => vec!["10.0.0.1".parse().unwrap(), "8.8.8.8".parse().unwrap()],
        "rebind.example" | "models.lan" => vec!["127.0.0.1".parse().unwrap()],
        _ => Vec::new(),
    };
    let closed = egress(&["models.lan:8000"], false).with_lookup(lookup);
    let open = closed.resolve("mixed.example").await.unwrap();
    assert_eq!(open, ["8.8.8.8:0".parse().unwrap()]);
    let refused = closed.resolve("rebind.example").await.unwrap_err();
    assert!(matches!(refused, EgressError::Refused { class: AddressClass::Loopback, .. }));
    assert!(matches!(closed.resolve("none.example").await, Err(EgressError::Unresolved { .. })));
    assert!(closed.resolve("models.lan").await.is_ok());
    assert!(closed.with_loopback().resolve("rebind.example").await.is_ok());

    // Through the whole client: the refusal comes back as what it is.
    let client = closed.client(&ClientOptions::default()).unwrap();
    let error = client.get("http://rebind.example/").send().await.unwrap_err();
    assert_eq!(refusal_in(&error), Some(refused));
}
