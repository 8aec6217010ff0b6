//! Apache Cassandra from Maven Central, on Java 17.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context, Result, bail};

use super::{Place, Service};
use crate::{
    run::{quiet, step, text},
    tools::{apt, which},
    workspace::{Workspace, is_stamped},
};

const VERSION: &str = "5.0.5";
/// The first Java that it supports and that Debian has, and the last one that it starts on.
const JAVA: u32 = 17;
/// How long one probe of its port may take.
const PROBE: Duration = Duration::from_secs(2);
/// `OPTIONS` in version 4 of its protocol, and the first byte of an answer.
const OPTIONS: [u8; 9] = [0x04, 0, 0, 0, 0x05, 0, 0, 0, 0];
const ANSWER: u8 = 0x84;

/// What the modules of Java must open to it.
const EXPORTS: &[&str] = &[
    "java.base/jdk.internal.misc",
    "java.base/jdk.internal.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.rmi/sun.rmi.transport.tcp",
    "java.sql/java.sql",
];
const OPENS: &[&str] = &[
    "java.base/java.lang.module",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/java.util.concurrent",
    "java.base/java.util.concurrent.atomic",
    "java.base/java.nio",
    "jdk.management/com.sun.management.internal",
];

#[derive(Debug)]
pub(crate) struct Cassandra {
    /// Its schema survives kill -9, for which all system tables are flushed with each table that
    /// is made.
    pub(crate) keeps_schema: bool,
    /// Where drivers reach it, if not where it listens.
    pub(crate) announced: Option<Ipv4Addr>,
}

impl Service for Cassandra {
    fn name(&self) -> &'static str {
        "cassandra"
    }

    fn variable(&self) -> &'static str {
        "TROUPE_TEST_CQL"
    }

    /// Clients, other servers, management.
    fn ports(&self) -> usize {
        3
    }

    fn start_limit(&self) -> Duration {
        Duration::from_secs(120)
    }

    fn install(&self, ws: &Workspace) -> Result<()> {
        java()?;
        jars(ws)
    }

    fn command(&self, ws: &Workspace, place: &Place) -> Result<Command> {
        let &[cql, storage, jmx] = place.ports.as_slice() else {
            bail!("three ports are needed, there are {}", place.ports.len());
        };
        let mut text = yaml(&place.dir, cql, storage, Ipv4Addr::LOCALHOST, self.keeps_schema);
        text.push_str(&seeds(Ipv4Addr::LOCALHOST, storage));
        text.push_str("authenticator: AllowAllAuthenticator\n");
        if let Some(address) = self.announced {
            text.push_str(&format!("broadcast_rpc_address: {address}\n"));
        }
        self.daemon(ws, place, &text, jmx)
    }

    fn is_ready(&self, place: &Place) -> bool {
        let at = place.ports.first().map(|port| SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port));
        at.is_some_and(|at| probe(at).unwrap_or(false))
    }

    fn probe(&self) -> (&'static [u8], &'static [u8]) {
        (&OPTIONS, &[ANSWER])
    }
}

impl Cassandra {
    /// The program with these settings, managed at a port.
    pub(super) fn daemon(
        &self,
        ws: &Workspace,
        place: &Place,
        settings: &str,
        jmx: u16,
    ) -> Result<Command> {
        let config = place.dir.join("cassandra.yaml");
        fs::write(&config, settings).context("write cassandra.yaml")?;
        let logback = place.dir.join("logback.xml");
        fs::write(&logback, LOGBACK).context("write logback.xml")?;
        let lib = lib(ws);
        let mut command = Command::new(java()?);
        command.current_dir(&place.dir);
        command.args(["-Xms256M", "-Xmx768M", "-XX:+UseG1GC", "-ea:org.apache.cassandra..."]);
        command.arg(format!("-javaagent:{}", agent(&lib)?.display()));
        for (option, packages) in [("--add-exports", EXPORTS), ("--add-opens", OPENS)] {
            for package in packages {
                command.arg(option).arg(format!("{package}=ALL-UNNAMED"));
            }
        }
        for (name, value) in [
            ("cassandra.config", format!("file://{}", config.display())),
            ("logback.configurationFile", format!("file://{}", logback.display())),
            ("cassandra.storagedir", place.dir.display().to_string()),
            ("cassandra.ring_delay_ms", "100".to_owned()),
            ("cassandra.skip_wait_for_gossip_to_settle", "0".to_owned()),
            ("cassandra.superuser_setup_delay_ms", "0".to_owned()),
            ("cassandra.jmx.local.port", jmx.to_string()),
            ("cassandra-foreground", "yes".to_owned()),
            // Else a keyspace per test would cost too much.
            ("cassandra.unsafesystem", (!self.keeps_schema).to_string()),
            ("java.io.tmpdir", place.dir.display().to_string()),
        ] {
            command.arg(format!("-D{name}={value}"));
        }
        command.arg("-cp").arg(format!("{}/*", lib.display()));
        command.arg("org.apache.cassandra.service.CassandraDaemon");
        Ok(command)
    }
}

/// Whether something that speaks CQL answers there.
pub(super) fn probe(at: SocketAddrV4) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect_timeout(&at.into(), PROBE)?;
    stream.set_read_timeout(Some(PROBE))?;
    stream.write_all(&OPTIONS)?;
    let mut first = [0];
    stream.read_exact(&mut first)?;
    Ok(first[0] == ANSWER)
}

/// One data centre, one token, small buffers: a server for tests. Where it is killed, a write is
/// on the disk before it is answered. Elsewhere a disk that others keep busy must not stall
/// writes behind a sync; then kill -9 takes what was answered in the last 100 ms, since what
/// lies behind the last marker of the commit log is not read again.
pub(super) fn yaml(dir: &Path, cql: u16, storage: u16, own: Ipv4Addr, is_killed: bool) -> String {
    let dir = dir.display();
    let sync = match is_killed {
        true => "commitlog_sync: group\ncommitlog_sync_group_window: 5ms",
        false => "commitlog_sync: periodic\ncommitlog_sync_period: 600s",
    };
    format!(
        "cluster_name: troupe-tests
num_tokens: 1
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
endpoint_snitch: SimpleSnitch
listen_address: {own}
storage_port: {storage}
rpc_address: {own}
native_transport_port: {cql}
start_native_transport: true
data_file_directories: ['{dir}/data']
commitlog_directory: '{dir}/commitlog'
saved_caches_directory: '{dir}/saved_caches'
hints_directory: '{dir}/hints'
cdc_raw_directory: '{dir}/cdc_raw'
{sync}
commitlog_segment_size: 32MiB
commitlog_disk_access_mode: mmap
max_mutation_size: 16MiB
native_transport_max_frame_size: 32MiB
auto_snapshot: false
authorizer: AllowAllAuthorizer
concurrent_reads: 16
concurrent_writes: 16
memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
file_cache_size: 64MiB
key_cache_size: 8MiB
row_cache_size: 0MiB
compaction_throughput: 64MiB/s
read_request_timeout: 10s
write_request_timeout: 10s
cas_contention_timeout: 5s
truncate_request_timeout: 60s
request_timeout: 10s
dynamic_snitch: false
"
    )
}

/// Whom a server asks about its ring.
pub(super) fn seeds(first: Ipv4Addr, storage: u16) -> String {
    format!(
        "seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters: [{{seeds: '{first}:{storage}'}}]
"
    )
}

const LOGBACK: &str = r#"<configuration>
  <appender name="out" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601} %-5level %logger{0} %msg%n</pattern></encoder>
  </appender>
  <logger name="org.apache.cassandra" level="INFO"/>
  <root level="WARN"><appender-ref ref="out"/></root>
</configuration>
"#;

fn lib(ws: &Workspace) -> PathBuf {
    ws.target.join("services").join(format!("cassandra-{VERSION}"))
}

/// The agent that measures objects; Cassandra does not start without it.
fn agent(lib: &Path) -> Result<PathBuf> {
    let jars = fs::read_dir(lib).with_context(|| format!("read {}", lib.display()))?;
    let mut files = jars.flatten().map(|entry| entry.path());
    let is_agent = |file: &PathBuf| {
        file.file_name().and_then(|name| name.to_str()).is_some_and(|n| n.starts_with("jamm-"))
    };
    files.find(is_agent).context("the jars hold no jamm")
}

/// All of its jars, by way of a project file that names only it.
fn jars(ws: &Workspace) -> Result<()> {
    let lib = lib(ws);
    let stamp = lib.join("stamp");
    if is_stamped(&stamp, VERSION) {
        return Ok(());
    }
    if which("mvn").is_none() {
        apt(&["maven"])?;
    }
    step(&format!("taking Apache Cassandra {VERSION} from Maven Central (66 MB)"));
    fs::create_dir_all(&lib).with_context(|| format!("make {}", lib.display()))?;
    let pom = lib.join("pom.xml");
    fs::write(&pom, project()).context("write the project file")?;
    let mut mvn = Command::new("mvn");
    mvn.current_dir(&lib).args(["--batch-mode", "--quiet", "dependency:copy-dependencies"]);
    mvn.args(["-DincludeScope=runtime", "-DoutputDirectory=."]);
    quiet(mvn.env("JAVA_HOME", java_home()?))?;
    fs::write(&stamp, VERSION).context("write the stamp of the jars")
}

fn project() -> String {
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\">
  <modelVersion>4.0.0</modelVersion>
  <groupId>troupe</groupId><artifactId>test-services</artifactId><version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.cassandra</groupId><artifactId>cassandra-all</artifactId>
      <version>{VERSION}</version>
    </dependency>
  </dependencies>
</project>
"
    )
}

fn java_home() -> Result<PathBuf> {
    let java = fs::canonicalize(java()?).context("find Java's directory")?;
    Ok(java.ancestors().nth(2).context("Java lies in a bin directory")?.to_owned())
}

/// Java 17: the one of the search path, else Debian's, installed if need be.
pub(super) fn java() -> Result<PathBuf> {
    if let Some(found) = installed_java() {
        return Ok(found);
    }
    apt(&["openjdk-17-jre-headless"])?;
    installed_java().context("apt installed Java 17, yet there is none")
}

fn installed_java() -> Option<PathBuf> {
    let debian = fs::read_dir("/usr/lib/jvm").into_iter().flatten().flatten();
    let debian = debian.map(|entry| entry.path().join("bin/java"));
    which("java").into_iter().chain(debian).find(|java| is_right(java))
}

fn is_right(java: &Path) -> bool {
    let release = text(Command::new(java).arg("--version"));
    release.is_ok_and(|text| major(&text) == Some(JAVA))
}

/// "openjdk 17.0.15 2025-04-15" is 17.
fn major(version: &str) -> Option<u32> {
    version.lines().next()?.split_whitespace().nth(1)?.split('.').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_java_are_told_apart() {
        assert_eq!(major("openjdk 17.0.15 2025-04-15\nOpenJDK Runtime"), Some(17));
        assert_eq!(major("java 21 2023-09-19 LTS"), Some(21));
        assert_eq!(major("openjdk 25.0.1 2025-10-21"), Some(25));
        assert_eq!(major(""), None);
    }

    #[test]
    fn nothing_listens_beyond_loopback() {
        let yaml = yaml(Path::new("/x"), 1, 2, Ipv4Addr::LOCALHOST, false);
        assert!(
            yaml.contains("listen_address: 127.0.0.1") && yaml.contains("rpc_address: 127.0.0.1")
        );
        assert!(yaml.contains("native_transport_port: 1") && yaml.contains("storage_port: 2"));
    }
}
