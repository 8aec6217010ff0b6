//! A gateway on a free port, with an administrator and two users.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};
use troupe_gateway::{Gateway, GatewayOptions, GatewayState, NoConsole, serve};
use troupe_llm::{Sealer, SecretKey};
use troupe_services::{
    Auth, AuthOptions, GitTokens, Operations, OperationsParts,
    admin::{LocalOperator, LocalParts},
    auth::{Keys, SetupToken},
};
use troupe_sharding::{HostWatch, Router};
use troupe_soft_state::{InProcess, Lifetimes};
use troupe_store::MemoryStore;
use troupe_types::{Clock, ManualClock, Roles, TaskId, Timestamp};

use crate::fake::{FakeResources, FakeTasks};

pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

pub(crate) struct Node {
    pub(crate) url: String,
    pub(crate) gateway: Gateway,
    pub(crate) auth: Arc<Auth>,
    pub(crate) tasks: Arc<FakeTasks>,
    pub(crate) soft: Arc<InProcess>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) http: reqwest::Client,
    pub(crate) store: MemoryStore,
    pub(crate) keys: Keys,
    pub(crate) setup: Option<SetupToken>,
    _jobs: JoinSet<()>,
    _dir: tempfile::TempDir,
}

/// What the nodes of a cluster share, but for `soft`, which is one's own end of it.
struct Cluster {
    keys: Keys,
    clock: Arc<ManualClock>,
    soft: InProcess,
    store: MemoryStore,
    tasks: Arc<FakeTasks>,
    dir: tempfile::TempDir,
}

/// Somebody who is logged in.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) token: String,
    pub(crate) refresh: String,
    pub(crate) id: String,
}

impl Node {
    pub(crate) async fn start() -> Self {
        Self::with(GatewayOptions::default(), Arc::new(NoConsole)).await
    }

    pub(crate) async fn with(
        options: GatewayOptions,
        assets: Arc<dyn troupe_gateway::Assets>,
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::load_or_create(dir.path()).unwrap();
        let clock = Arc::new(ManualClock::at(Timestamp::from_millis(1_795_000_000_000)));
        let shared_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let soft = InProcess::new(shared_clock, Lifetimes::default());
        let (store, tasks) = (MemoryStore::new(), Arc::new(FakeTasks::default()));
        let cluster = Cluster { keys, clock, soft, store, tasks, dir };
        Self::of(cluster, options, assets).await
    }

    /// Another node of the same cluster.
    pub(crate) async fn another(&self) -> Self {
        let cluster = Cluster {
            keys: self.keys.clone(),
            clock: Arc::clone(&self.clock),
            soft: self.soft.another(),
            store: self.store.clone(),
            tasks: Arc::clone(&self.tasks),
            dir: tempfile::tempdir().unwrap(),
        };
        Self::of(cluster, GatewayOptions::default(), Arc::new(NoConsole)).await
    }

    async fn of(
        cluster: Cluster,
        options: GatewayOptions,
        assets: Arc<dyn troupe_gateway::Assets>,
    ) -> Self {
        let Cluster { keys, clock, soft, store, tasks, dir } = cluster;
        let soft = Arc::new(soft);
        let shared_clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let auth = Auth::open(
            Arc::new(store.clone()),
            Arc::<InProcess>::clone(&soft),
            Arc::clone(&shared_clock),
            keys.clone(),
            AuthOptions::default(),
        );
        let auth = auth.await.unwrap();
        let setup = auth.prepare_setup().await.unwrap();
        let gateway = Gateway::new(GatewayState {
            tasks: Arc::<FakeTasks>::clone(&tasks),
            devices: Arc::new(crate::fake::NoDevices),
            resources: Arc::new(FakeResources::default()),
            operations: operations(&store, &soft, &shared_clock),
            git_tokens: Arc::new(GitTokens::new(
                Arc::new(store.clone()),
                Arc::new(Sealer::in_memory(&[SecretKey::new([3; 32])])),
                Arc::clone(&shared_clock),
            )),
            auth: Arc::clone(&auth),
            soft: Arc::<InProcess>::clone(&soft),
            assets,
            clock: shared_clock,
            metrics: None,
            options,
        });
        gateway.set_ready();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let mut jobs = JoinSet::new();
        let router = gateway.router();
        jobs.spawn(async move {
            serve(listener, None, router, std::future::pending()).await.unwrap();
        });
        let polling = Arc::clone(&auth);
        jobs.spawn(async move {
            // The manual clock does not move the poll; real time does.
            let mut every = tokio::time::interval(Duration::from_millis(300));
            loop {
                every.tick().await;
                polling.tick().await;
            }
        });
        let http = reqwest::Client::builder().timeout(DEADLINE).build().unwrap();
        Self {
            url,
            gateway,
            auth,
            tasks,
            soft,
            clock,
            http,
            store,
            keys,
            setup,
            _jobs: jobs,
            _dir: dir,
        }
    }

    /// The administrator, ann and bob.
    pub(crate) async fn people(&mut self) -> (Person, Person, Person) {
        let token = self.setup.take().expect("once");
        let body = json!({ "token": token.reveal(), "password": "admin-password" });
        let answer = self.http.post(self.at("/api/v1/setup")).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        let admin = person(&answer.json().await.unwrap());
        let mut users = Vec::new();
        for name in ["ann", "bob"] {
            let body = json!({ "user_name": name, "password": format!("{name}-password") });
            let request = self.http.post(self.at("/api/v1/users")).bearer_auth(&admin.token);
            assert_eq!(request.json(&body).send().await.unwrap().status(), 201);
            users.push(self.login(name).await);
        }
        let bob = users.pop().unwrap();
        (admin, users.pop().unwrap(), bob)
    }

    pub(crate) async fn login(&self, name: &str) -> Person {
        let body = json!({ "user_name": name, "password": format!("{name}-password") });
        let request = self.http.post(self.at("/api/v1/auth/login")).json(&body);
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200);
        person(&answer.json().await.unwrap())
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn get(&self, who: &Person, path: &str) -> (u16, Value) {
        self.ask(who, "GET", path, None).await
    }

    pub(crate) async fn post(&self, who: &Person, path: &str, body: Value) -> (u16, Value) {
        self.ask(who, "POST", path, Some(body)).await
    }

    pub(crate) async fn ask(
        &self,
        who: &Person,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let method = method.parse().unwrap();
        let mut request = self.http.request(method, self.at(path)).bearer_auth(&who.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let text = answer.text().await.unwrap();
        (status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// A new Task of somebody.
    pub(crate) async fn task(&self, who: &Person) -> TaskId {
        let (status, ack) = self.post(who, "/api/v1/tasks", json!({ "message": "hello" })).await;
        assert_eq!(status, 201, "{ack}");
        ack["task_id"].as_str().unwrap().parse().unwrap()
    }
}

/// Operations over a node without entities.
fn operations(
    store: &MemoryStore,
    soft: &Arc<InProcess>,
    clock: &Arc<dyn Clock>,
) -> Arc<Operations> {
    let local = LocalOperator::new(LocalParts {
        name: "local".to_owned(),
        incarnation: 1,
        build: "test".to_owned(),
        roles: Roles::ALL,
        weight: 100,
        http: None,
        link: None,
        key_ids: vec!["k1".to_owned()],
        host: HostWatch::default(),
        control: None,
        clock: Arc::clone(clock),
    });
    Arc::new(Operations::new(OperationsParts {
        operator: Arc::new(local),
        stores: store.stores(),
        router: Router::new(),
        soft: Arc::<InProcess>::clone(soft),
        clock: Arc::clone(clock),
        data_dir: None,
        keys_dir: None,
    }))
}

fn person(answer: &Value) -> Person {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    Person {
        token: text(&answer["access_token"]),
        refresh: text(&answer["refresh_token"]),
        id: text(&answer["user"]["id"]),
    }
}
