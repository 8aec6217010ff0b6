use std::net::IpAddr;

use troupe_api::auth::{
    CreateApiKey, CreateUser, LoginRequest, RefreshTransport, SetupRequest, UserPatch, UserRole,
};
use troupe_soft_state::{InProcess, Lifetimes};
use troupe_store::MemoryStore;
use troupe_types::{ManualClock, Timestamp};

use super::*;
use crate::caller::{Caller, Credential};

const START: Timestamp = Timestamp::from_millis(1_795_000_000_000);

/// A node over a store; further ones on the same store are further processes.
struct Node {
    auth: Arc<Auth>,
    clock: Arc<ManualClock>,
    store: MemoryStore,
    keys: Keys,
    _dir: tempfile::TempDir,
}

impl Node {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(&dir.path().join("keys")).unwrap();
        let (store, clock) = (MemoryStore::new(), Arc::new(ManualClock::at(START)));
        let auth = open(&store, &clock, &keys).await;
        Self { auth, clock, store, keys, _dir: dir }
    }

    /// Another process on the same store, or this one after a restart.
    async fn another(&self) -> Arc<Auth> {
        open(&self.store, &self.clock, &self.keys).await
    }

    async fn admin(&self) -> Caller {
        let token = self.auth.prepare_setup().await.unwrap().expect("no administrator yet");
        let login = setup(&self.auth, token.reveal()).await.unwrap();
        self.auth.verify(&login.answer.access_token).await.unwrap()
    }

    async fn user(&self, admin: &Caller, name: &str) -> Caller {
        let request = CreateUser {
            user_name: name.to_owned(),
            password: format!("{name}-password"),
            email: None,
            role: None,
        };
        self.auth.create_user(admin, request).await.unwrap();
        let login = self.login(name).await;
        self.auth.verify(&login.answer.access_token).await.unwrap()
    }

    async fn login(&self, name: &str) -> Login {
        login(&self.auth, name, &format!("{name}-password")).await.unwrap()
    }
}

async fn open(store: &MemoryStore, clock: &Arc<ManualClock>, keys: &Keys) -> Arc<Auth> {
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(clock);
    let (store, soft) = (Arc::new(store.clone()), InProcess::shared(Arc::clone(&clock)));
    Auth::open(store, soft, clock, keys.clone(), AuthOptions::default()).await.unwrap()
}

/// Two nodes that share soft state and poll once an hour.
async fn two_nodes() -> (Node, Arc<Auth>) {
    let mut node = Node::start().await;
    let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&node.clock);
    let soft = InProcess::new(Arc::clone(&clock), Lifetimes::default());
    let options =
        || AuthOptions { poll_every: Duration::from_secs(3600), ..AuthOptions::default() };
    let open = |soft: InProcess| {
        let (store, keys) = (Arc::new(node.store.clone()), node.keys.clone());
        Auth::open(store, Arc::new(soft), Arc::clone(&clock), keys, options())
    };
    let (one, two) = (open(soft.another()).await.unwrap(), open(soft).await.unwrap());
    node.auth = one;
    (node, two)
}

async fn setup(auth: &Auth, token: &str) -> Result<Login, AuthError> {
    let request = SetupRequest {
        token: token.to_owned(),
        user_name: None,
        password: "admin-password".to_owned(),
    };
    auth.setup(request, RefreshTransport::Body).await
}

async fn login(auth: &Auth, name: &str, password: &str) -> Result<Login, AuthError> {
    let request = LoginRequest {
        user_name: name.to_owned(),
        password: password.to_owned(),
        transport: RefreshTransport::Body,
    };
    auth.login(request, Some(IpAddr::from([127, 0, 0, 1]))).await
}

fn body(login: &Login) -> RefreshProof {
    RefreshProof::Body(login.answer.refresh_token.clone().expect("transport body"))
}

#[tokio::test]
async fn the_setup_token_works_once_and_a_new_start_replaces_a_lost_one() {
    let node = Node::start().await;
    let lost = node.auth.prepare_setup().await.unwrap().unwrap();
    let found = node.auth.prepare_setup().await.unwrap().unwrap();
    assert!(node.auth.setup_needed().await.unwrap());
    assert!(matches!(setup(&node.auth, lost.reveal()).await, Err(AuthError::SetupGone)));
    let both = tokio::join!(setup(&node.auth, found.reveal()), setup(&node.auth, found.reveal()));
    assert_eq!(usize::from(both.0.is_ok()) + usize::from(both.1.is_ok()), 1, "one of two wins");
    assert!(matches!(setup(&node.auth, found.reveal()).await, Err(AuthError::SetupGone)));
    assert!(!node.auth.setup_needed().await.unwrap());
    assert!(node.another().await.prepare_setup().await.unwrap().is_none());
}

#[tokio::test]
async fn a_login_does_not_tell_unknown_names_from_wrong_passwords() {
    let node = Node::start().await;
    let admin = node.admin().await;
    node.user(&admin, "ann").await;
    for (name, password) in [("ann", "wrong"), ("nobody", "wrong"), ("\u{0}", "x"), ("", "")] {
        let refused = login(&node.auth, name, password).await;
        assert!(matches!(refused, Err(AuthError::WrongPassword)), "{name:?}");
    }
    login(&node.auth, "ANN", "ann-password").await.expect("names have any case");
    for _ in 0..20 {
        let _ = login(&node.auth, "ann", "wrong").await;
    }
    let refused = login(&node.auth, "ann", "ann-password").await;
    assert!(matches!(refused, Err(AuthError::TooMany { .. })), "also with the right password");
}

#[tokio::test]
async fn access_tokens_end_and_are_bound_to_key_and_cluster() {
    let node = Node::start().await;
    let admin = node.admin().await;
    let token = node.login("admin").await.answer.access_token;
    assert_eq!(node.auth.verify(&token).await.unwrap().user, admin.user);
    let stranger = Node::start().await;
    stranger.admin().await;
    assert!(matches!(stranger.auth.verify(&token).await, Err(AuthError::BadToken)));
    for garbage in ["", "x", "a.b.c", "trp_", "trp_short", &format!("{token}x"), &"x".repeat(9999)]
    {
        let refused = node.auth.verify(garbage).await;
        assert!(matches!(refused, Err(AuthError::BadToken)), "{garbage}");
    }
    node.clock.advance(Duration::from_secs(15 * 60));
    assert!(matches!(node.auth.verify(&token).await, Err(AuthError::Expired)));
}

#[tokio::test]
async fn refresh_rotates_gives_siblings_and_ends_the_family_on_reuse() {
    let node = Node::start().await;
    node.admin().await;
    let first = node.login("admin").await;
    let second = node.auth.refresh(body(&first)).await.unwrap();
    let sibling = node.auth.refresh(body(&first)).await.expect("30 s for a lost answer");
    node.clock.advance(Duration::from_secs(31));
    let third = node.auth.refresh(body(&second)).await.unwrap();
    let other = node.auth.refresh(body(&sibling)).await.expect("a sibling has its own line");
    assert!(node.auth.verify(&third.answer.access_token).await.is_ok());
    assert!(matches!(node.auth.refresh(body(&first)).await, Err(AuthError::Reused)));
    for dead in [&third, &other] {
        assert!(matches!(node.auth.refresh(body(dead)).await, Err(AuthError::Revoked)));
        let refused = node.auth.verify(&dead.answer.access_token).await;
        assert!(matches!(refused, Err(AuthError::Revoked)));
    }
}

#[tokio::test]
async fn two_who_refresh_at_once_both_stay_in() {
    let node = Node::start().await;
    node.admin().await;
    let first = node.login("admin").await;
    let another = node.another().await;
    let (a, b) = tokio::join!(node.auth.refresh(body(&first)), another.refresh(body(&first)));
    let (a, b) = (a.unwrap(), b.unwrap());
    node.clock.advance(Duration::from_secs(3600));
    node.auth.refresh(body(&a)).await.unwrap();
    node.auth.refresh(body(&b)).await.unwrap();
}

#[tokio::test]
async fn garbage_with_the_right_session_id_ends_nothing() {
    let node = Node::start().await;
    node.admin().await;
    let login = node.login("admin").await;
    let real = data_encoding::BASE64URL_NOPAD
        .decode(login.answer.refresh_token.clone().unwrap().as_bytes())
        .unwrap();
    let mut forged = real;
    forged[20] ^= 1;
    let forged = data_encoding::BASE64URL_NOPAD.encode(&forged);
    let refused = node.auth.refresh(RefreshProof::Body(forged.clone())).await;
    assert!(matches!(refused, Err(AuthError::BadToken)));
    assert!(node.auth.logout(RefreshProof::Body(forged)).await.is_err());
    node.auth.refresh(body(&login)).await.expect("the session lives");
}

#[tokio::test]
async fn a_refresh_token_that_is_not_used_ends_after_thirty_days() {
    let node = Node::start().await;
    node.admin().await;
    let login = node.login("admin").await;
    node.clock.advance(Duration::from_secs(29 * 24 * 3600));
    let login = node.auth.refresh(body(&login)).await.unwrap();
    node.clock.advance(Duration::from_secs(30 * 24 * 3600));
    assert!(matches!(node.auth.refresh(body(&login)).await, Err(AuthError::Expired)));
}

#[tokio::test]
async fn a_cookie_without_its_proof_proves_nothing_and_revokes_nothing() {
    let node = Node::start().await;
    node.admin().await;
    let request = LoginRequest {
        user_name: "admin".to_owned(),
        password: "admin-password".to_owned(),
        transport: RefreshTransport::Cookie,
    };
    let login = node.auth.login(request, None).await.unwrap();
    assert!(login.answer.refresh_token.is_none(), "not where scripts can read it");
    let (token, proof) = (login.cookie.clone().unwrap(), login.answer.proof.clone());
    for wrong in [None, Some(String::new()), Some("guess".to_owned())] {
        let shown = || RefreshProof::Cookie { token: token.clone(), proof: wrong.clone() };
        assert!(matches!(node.auth.refresh(shown()).await, Err(AuthError::BadToken)));
        assert!(matches!(node.auth.logout(shown()).await, Err(AuthError::BadToken)));
    }
    let bare = node.auth.refresh(RefreshProof::Body(token.clone())).await;
    assert!(matches!(bare, Err(AuthError::BadToken)), "nor out of the cookie jar");
    let next = node.auth.refresh(RefreshProof::Cookie { token, proof: proof.clone() }).await;
    let next = next.expect("with its proof it works");
    let shown = RefreshProof::Cookie { token: next.cookie.unwrap(), proof };
    node.auth.logout(shown).await.unwrap();
    assert!(node.auth.verify(&next.answer.access_token).await.is_err());
}

#[tokio::test]
async fn a_logout_counts_at_once_here_after_a_poll_elsewhere_and_after_a_restart() {
    let node = Node::start().await;
    node.admin().await;
    let (login, kept) = (node.login("admin").await, node.login("admin").await);
    let token = &login.answer.access_token;
    let another = node.another().await;
    let caller = another.verify(token).await.unwrap();
    let mut told = another.changes();
    node.auth.logout(body(&login)).await.unwrap();
    assert!(matches!(node.auth.verify(token).await, Err(AuthError::Revoked)));
    another.tick().await;
    assert!(matches!(another.verify(token).await, Err(AuthError::Revoked)));
    assert!(matches!(another.recheck(&caller).await, Err(AuthError::Revoked)));
    assert_eq!(told.try_recv().unwrap(), AuthChange::User(caller.user));
    assert!(matches!(node.another().await.verify(token).await, Err(AuthError::Revoked)));
    for auth in [&node.auth, &another] {
        auth.verify(&kept.answer.access_token).await.expect("other sessions live on");
    }
    node.auth.logout(body(&login)).await.expect("logging out twice is no error");
}

#[tokio::test]
async fn what_is_remembered_is_not_believed_when_the_store_was_not_polled_for_long() {
    let node = Node::start().await;
    node.admin().await;
    let login = node.login("admin").await;
    let another = node.another().await;
    another.verify(&login.answer.access_token).await.unwrap();
    node.auth.logout(body(&login)).await.unwrap();
    node.clock.advance(Duration::from_secs(16));
    let refused = another.verify(&login.answer.access_token).await;
    assert!(matches!(refused, Err(AuthError::Revoked)), "no poll, so the row was read");
}

#[tokio::test]
async fn a_new_password_ends_the_other_sessions_only() {
    let node = Node::start().await;
    let admin = node.admin().await;
    let mine = node.user(&admin, "ann").await;
    let other = node.login("ann").await;
    let patch = |current: Option<&str>| UserPatch {
        password: Some("a-new-password".to_owned()),
        current_password: current.map(str::to_owned),
        ..UserPatch::default()
    };
    assert!(node.auth.patch_me(&mine, patch(None)).await.is_err());
    assert!(node.auth.patch_me(&mine, patch(Some("wrong"))).await.is_err());
    let another = node.another().await;
    another.verify(&other.answer.access_token).await.unwrap();
    node.auth.patch_me(&mine, patch(Some("ann-password"))).await.unwrap();
    another.tick().await;
    for auth in [&node.auth, &another] {
        auth.recheck(&mine).await.expect("this session goes on");
        assert!(matches!(auth.verify(&other.answer.access_token).await, Err(AuthError::Revoked)));
    }
    assert!(matches!(node.auth.refresh(body(&other)).await, Err(AuthError::Revoked)));
    assert!(login(&node.auth, "ann", "ann-password").await.is_err());
    login(&node.auth, "ann", "a-new-password").await.unwrap();
}

#[tokio::test]
async fn a_deactivated_user_is_out_with_sessions_and_keys() {
    let node = Node::start().await;
    let admin = node.admin().await;
    let ann = node.user(&admin, "ann").await;
    let login_before = node.login("ann").await;
    let request = CreateApiKey { name: "ci".to_owned(), expires_at: None };
    let key = node.auth.create_api_key(&ann, request).await.unwrap().key;
    node.auth.verify(&key).await.unwrap();
    node.auth.deactivate(&admin, ann.user).await.unwrap();
    assert!(node.auth.recheck(&ann).await.is_err());
    assert!(node.auth.verify(&key).await.is_err());
    assert!(login(&node.auth, "ann", "ann-password").await.is_err());
    let active = UserPatch { is_active: Some(true), ..UserPatch::default() };
    node.auth.patch_user(&admin, ann.user, active).await.unwrap();
    assert!(node.auth.verify(&login_before.answer.access_token).await.is_err(), "ended for good");
    assert!(node.auth.refresh(body(&login_before)).await.is_err());
    node.auth.verify(&key).await.expect("a key of an active user works again");
}

/// What an open socket may do is what its person may do by now.
#[tokio::test]
async fn a_role_that_was_taken_away_is_gone_at_the_next_look() {
    let node = Node::start().await;
    let admin = node.admin().await;
    let ann = node.user(&admin, "ann").await;
    let role = |role| UserPatch { role: Some(role), ..UserPatch::default() };
    node.auth.patch_user(&admin, ann.user, role(UserRole::Admin)).await.unwrap();
    let request = CreateApiKey { name: "ci".to_owned(), expires_at: None };
    let key = node.auth.create_api_key(&ann, request).await.unwrap().key;
    let caller = node.auth.verify(&key).await.unwrap();
    assert!(caller.is_admin());
    node.auth.patch_user(&admin, ann.user, role(UserRole::User)).await.unwrap();
    assert!(!node.auth.recheck(&caller).await.unwrap().is_admin());
}

#[tokio::test]
async fn administrators_cannot_remove_themselves_or_the_last_one() {
    let node = Node::start().await;
    let admin = node.admin().await;
    let demote = || UserPatch { role: Some(UserRole::User), ..UserPatch::default() };
    assert!(matches!(node.auth.deactivate(&admin, admin.user).await, Err(AuthError::Conflict(_))));
    assert!(node.auth.patch_user(&admin, admin.user, demote()).await.is_err());
    let ann = node.user(&admin, "ann").await;
    for refused in [
        node.auth.user(&ann, admin.user).await.err(),
        node.auth.deactivate(&ann, admin.user).await.err(),
        node.auth.list_users(&ann, None, 0).await.err(),
        node.auth.patch_me(&ann, demote()).await.err(),
    ] {
        assert!(matches!(refused, Some(AuthError::Forbidden(_))));
    }
    let promote = UserPatch { role: Some(UserRole::Admin), ..UserPatch::default() };
    node.auth.patch_user(&admin, ann.user, promote).await.unwrap();
    let ann = node.auth.verify(&node.login("ann").await.answer.access_token).await.unwrap();
    assert!(ann.is_admin());
    // Each removes the other at once: one of them must stay.
    let (a, b) = tokio::join!(
        node.auth.deactivate(&admin, ann.user),
        node.auth.patch_user(&ann, admin.user, demote())
    );
    assert!(a.is_err() || b.is_err(), "at least one administrator stays");
}

/// A demotion that is refused for another field leaves the count of administrators as it was.
#[tokio::test]
async fn a_patch_that_is_refused_changes_nothing() {
    let node = Node::start().await;
    let admin = node.admin().await;
    let ann = node.user(&admin, "ann").await;
    let role = |role| UserPatch { role: Some(role), ..UserPatch::default() };
    node.auth.patch_user(&admin, ann.user, role(UserRole::Admin)).await.unwrap();
    let ann = node.auth.verify(&node.login("ann").await.answer.access_token).await.unwrap();
    for bad in [
        UserPatch { password: Some("short".to_owned()), ..role(UserRole::User) },
        UserPatch { email: Some("no address".to_owned()), ..role(UserRole::User) },
    ] {
        let refused = node.auth.patch_user(&ann, admin.user, bad).await;
        assert!(matches!(refused, Err(AuthError::Invalid { .. })), "{refused:?}");
    }
    assert!(node.auth.user(&ann, admin.user).await.unwrap().role == UserRole::Admin);
    // Both still count: one of them may go, and then the other one is the last.
    node.auth.patch_user(&admin, ann.user, role(UserRole::User)).await.expect("one stays");
    let ann = node.auth.recheck(&ann).await.unwrap();
    node.auth.patch_user(&admin, ann.user, role(UserRole::Admin)).await.unwrap();
}

#[tokio::test]
async fn names_are_unique_in_any_case_and_fields_are_checked() {
    let node = Node::start().await;
    let admin = node.admin().await;
    node.user(&admin, "ann").await;
    let create = |name: &str, password: &str| {
        let request = CreateUser {
            user_name: name.to_owned(),
            password: password.to_owned(),
            email: None,
            role: None,
        };
        node.auth.create_user(&admin, request)
    };
    assert!(matches!(create("ANN", "long-enough").await, Err(AuthError::NameTaken)));
    for (name, password) in [("x", "long-enough"), ("a b", "long-enough"), ("bob", "short")] {
        assert!(matches!(create(name, password).await, Err(AuthError::Invalid { .. })), "{name}");
    }
    let (a, b) = tokio::join!(create("carl", "long-enough"), create("Carl", "long-enough"));
    assert_eq!(usize::from(a.is_ok()) + usize::from(b.is_ok()), 1, "one of two wins");
    let big = serde_json::json!({ "x": "y".repeat(17 * 1024) });
    let patch = UserPatch { preferences: big.as_object().cloned(), ..UserPatch::default() };
    assert!(matches!(node.auth.patch_me(&admin, patch).await, Err(AuthError::Invalid { .. })));
    let page = node.auth.list_users(&admin, None, 2).await.unwrap();
    assert_eq!((page.total, page.items.len()), (3, 2));
    let rest = node.auth.list_users(&admin, page.next.as_deref(), 2).await.unwrap();
    assert_eq!((rest.items.len(), rest.next), (1, None));
}

#[tokio::test]
async fn api_keys_end_are_deleted_and_say_when_they_were_used() {
    let node = Node::start().await;
    let admin = node.admin().await;
    let ann = node.user(&admin, "ann").await;
    let at = node.clock.now().plus(Duration::from_secs(3600));
    let request = CreateApiKey { name: "ci".to_owned(), expires_at: Some(at) };
    let made = node.auth.create_api_key(&ann, request).await.unwrap();
    assert_eq!(made.key.len(), 44);
    let caller = node.auth.verify(&made.key).await.unwrap();
    assert_eq!((caller.user, caller.expires_at), (ann.user, Some(at)));
    assert_eq!(caller.credential, Credential::ApiKey(made.view.id));
    node.auth.tick().await;
    let listed = node.auth.api_keys(&ann).await.unwrap();
    assert!(listed[0].last_used_at.is_some() && made.key.starts_with(&listed[0].key_prefix));
    assert!(node.auth.api_keys(&admin).await.unwrap().is_empty(), "keys are their user's");
    let foreign = node.auth.delete_api_key(&admin, made.view.id).await;
    assert!(matches!(foreign, Err(AuthError::NotFound(_))));
    let another = node.another().await;
    another.verify(&made.key).await.unwrap();
    node.auth.delete_api_key(&ann, made.view.id).await.unwrap();
    another.tick().await;
    assert!(another.verify(&made.key).await.is_err() && node.auth.recheck(&caller).await.is_err());
    let soon = CreateApiKey { name: "soon".to_owned(), expires_at: Some(at) };
    let soon = node.auth.create_api_key(&ann, soon).await.unwrap();
    node.clock.advance(Duration::from_secs(3600));
    assert!(matches!(node.auth.verify(&soon.key).await, Err(AuthError::Expired)));
}

#[test]
fn keys_are_made_once_and_exposed_ones_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("keys");
    let made: Vec<String> = Keys::load_or_create(&dir).unwrap().kids().map(str::to_owned).collect();
    let keys = Keys::load_or_create(&dir).unwrap();
    assert_eq!(keys.kids().collect::<Vec<_>>(), made);
    let file = std::fs::read_dir(&dir).unwrap().next().unwrap().unwrap().path();
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::load_or_create(&dir), Err(KeysError::Exposed { .. })));
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    std::fs::write(&file, b"garbage").unwrap();
    assert!(matches!(Keys::load_or_create(&dir), Err(KeysError::Malformed { .. })));
}

#[tokio::test]
async fn no_secret_is_shown_by_debug() {
    let node = Node::start().await;
    let token = node.auth.prepare_setup().await.unwrap().unwrap();
    let login = setup(&node.auth, token.reveal()).await.unwrap();
    let shown =
        format!("{:?} {token:?} {login:?} {:?} {:?}", node.auth, login.answer, body(&login));
    for secret in [
        token.reveal(),
        login.answer.access_token.as_str(),
        login.answer.refresh_token.as_deref().unwrap(),
        "PRIVATE",
    ] {
        assert!(!shown.contains(secret));
    }
}

#[tokio::test]
async fn another_node_hears_of_a_revocation_long_before_its_poll() {
    let (node, another) = two_nodes().await;
    let admin = node.admin().await;
    let mut jobs = tokio::task::JoinSet::new();
    jobs.spawn(Arc::clone(&another).run());
    for name in ["ann", "bob"] {
        let person = node.user(&admin, name).await;
        let login = node.login(name).await;
        another.verify(&login.answer.access_token).await.unwrap();
        let mut told = another.changes();
        node.auth.logout(body(&login)).await.unwrap();
        let change = tokio::time::timeout(Duration::from_secs(20), told.recv()).await;
        assert_eq!(change.expect("within seconds").unwrap(), AuthChange::User(person.user));
        let refused = another.verify(&login.answer.access_token).await;
        assert!(matches!(refused, Err(AuthError::Revoked)));
    }
}

#[tokio::test]
async fn logins_are_counted_over_all_nodes() {
    let (node, another) = two_nodes().await;
    let admin = node.admin().await;
    node.user(&admin, "ann").await;
    for auth in [&node.auth, &another].into_iter().cycle().take(10) {
        let refused = login(auth, "ann", "wrong").await;
        assert!(matches!(refused, Err(AuthError::WrongPassword)));
    }
    for auth in [&node.auth, &another] {
        let refused = login(auth, "ann", "ann-password").await;
        assert!(matches!(refused, Err(AuthError::TooMany { .. })));
    }
    node.clock.advance(Duration::from_secs(60));
    login(&another, "ann", "ann-password").await.expect("a minute later all is forgotten");
}
