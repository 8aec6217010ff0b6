//! Drives one program: the async shell around a [`Dialect`], which is a pure state machine.
//!
//! One loop owns the process, its pipes, the commands and the events. While events wait for
//! their reader, standard output is not read: the program's pipe fills and it waits. Commands
//! and stops are taken all the same.

use std::{collections::VecDeque, io, process::ExitStatus, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin},
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use troupe_actor::spawn_task;
use troupe_types::ErrorType;

use crate::{
    asks::{Asks, Outgoing},
    event::{Exit, RuntimeEvent, TurnEnd},
    job::Limits,
    lines::{Framing, Line, Lines, Tail},
    process::{Containment, LOOK, Program, Spawned, Tree},
    redact::redact,
    runtime::{
        Asked, COMMANDS_MAX, CommandError, EVENTS_MAX, Events, RunCommand, RunHandle, StartError,
        Started,
    },
    secret::Secrets,
};

/// How long a program may take to end after SIGTERM.
const TERM_WAIT: Duration = Duration::from_secs(2);
/// How often bounds are looked at.
const TICK: Duration = Duration::from_millis(200);
/// How long a turn may take to end after an interrupt.
const INTERRUPT_WAIT: Duration = Duration::from_secs(10);
/// How long the end of the output of a dead program is waited for.
const EOF_WAIT: Duration = Duration::from_secs(2);
/// Bytes that wait for the program to read them.
const OUTGOING_BYTES_MAX: usize = 32 * 1024 * 1024;

/// What a program is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Activity {
    /// The next prompt.
    Idle,
    /// A person, or word that what it said is kept.
    Person,
    /// Nothing: it works.
    Working,
}

/// What a [`Dialect`] wants done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) events: Vec<RuntimeEvent>,
    /// Lines for standard input, with their ends.
    pub(crate) writes: Vec<Vec<u8>>,
    /// No more input will come.
    pub(crate) close_input: bool,
    /// End it: it is of no more use.
    pub(crate) end: bool,
}

impl Effects {
    pub(crate) fn event(&mut self, event: RuntimeEvent) {
        self.events.push(event);
    }

    pub(crate) fn json(&mut self, value: &serde_json::Value) {
        let mut line = value.to_string().into_bytes();
        line.push(b'\n');
        self.writes.push(line);
    }
}

/// How one kind of program is spoken to. Pure: what comes in decides what is done.
pub(crate) trait Dialect: Send + 'static {
    /// Before anything was read.
    fn begin(&mut self) -> Effects;
    /// A line (or piece) of its standard output.
    fn line(&mut self, line: Line) -> Effects;
    /// A person's command.
    fn command(&mut self, command: RunCommand) -> Result<Effects, CommandError>;
    /// Nobody could be asked this, and it is over: the runtime is told why.
    fn refuse(&mut self, id: &str, why: &str) -> Effects;
    /// What it waits for.
    fn activity(&self) -> Activity;
    /// It ended: closes what is open (exactly one `TurnEnded` for an open turn).
    fn exited(&mut self, exit: &Exit) -> Effects;
    /// An open turn ends as failed for this reason; the program is ended afterwards.
    fn fail(&mut self, error: ErrorType, text: String) -> Effects;
    /// How its output is cut.
    fn framing(&self) -> Framing {
        Framing::Lines
    }
}

/// Starts a program and the loop that drives it.
pub(crate) fn start(
    containment: &Containment,
    program: &Program,
    dialect: Box<dyn Dialect>,
    secrets: Secrets,
    limits: Limits,
) -> Result<Started, StartError> {
    let spawned = containment.spawn(program);
    let Spawned { tree, child, stdin, stdout, stderr } = spawned
        .map_err(|e| StartError::machine(format!("start {}", program.program.display()), e))?;
    let framing = dialect.framing();
    let stdout = stdout.map(|out| Lines::new(out, framing));
    let errors = spawn_task("runtime-stderr", read_tail(stderr));
    let (command_tx, commands) = mpsc::channel::<Asked>(COMMANDS_MAX);
    let (events, event_rx) = mpsc::channel(EVENTS_MAX);
    let (stop_tx, stop) = watch::channel(false);
    let (ended_tx, ended) = watch::channel(false);
    let now = Instant::now();
    let driver = Driver {
        tree,
        child,
        stdin,
        stdout,
        dialect,
        asks: Asks::new(),
        secrets,
        limits,
        commands,
        events,
        stop,
        pending: VecDeque::new(),
        outgoing: VecDeque::new(),
        outgoing_bytes: 0,
        status: None,
        stopping: None,
        stopped: false,
        interrupted: None,
        heard: now,
        worked: Duration::ZERO,
        accounted: now,
        next_tick: now + TICK,
        looked: now,
    };
    spawn_task("runtime", async move {
        let errors = async { errors.await.unwrap_or_default() };
        driver.run(errors, &ended_tx).await;
    });
    let handle = RunHandle { commands: command_tx, stop: Arc::new(stop_tx), ended };
    Ok(Started { handle, events: Events(event_rx) })
}

async fn read_tail(stderr: Option<tokio::process::ChildStderr>) -> String {
    let mut tail = Tail::default();
    let Some(mut stderr) = stderr else { return String::new() };
    let mut buffer = vec![0; 4 * 1024];
    while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
        tail.push(&buffer[..read]);
    }
    tail.text()
}

struct Driver {
    tree: Tree,
    child: Child,
    stdin: Option<ChildStdin>,
    /// `None` once it ended.
    stdout: Option<Lines>,
    dialect: Box<dyn Dialect>,
    /// What a person is asked.
    asks: Asks,
    secrets: Secrets,
    limits: Limits,
    commands: mpsc::Receiver<Asked>,
    events: mpsc::Sender<RuntimeEvent>,
    stop: watch::Receiver<bool>,
    /// What one line led to, not yet taken.
    pending: VecDeque<RuntimeEvent>,
    outgoing: VecDeque<(Vec<u8>, usize)>,
    outgoing_bytes: usize,
    status: Option<ExitStatus>,
    /// When the kill follows.
    stopping: Option<Instant>,
    /// We ended it.
    stopped: bool,
    /// When an interrupted turn must have ended.
    interrupted: Option<Instant>,
    /// When it last said something.
    heard: Instant,
    /// How long this turn has worked so far.
    worked: Duration,
    accounted: Instant,
    next_tick: Instant,
    looked: Instant,
}

/// Everything that can wake the loop.
enum Wake {
    Stop,
    Command(RunCommand, oneshot::Sender<Result<(), CommandError>>),
    Deaf,
    Sent,
    Wrote(io::Result<usize>),
    Line(io::Result<Option<Line>>),
    Exited(io::Result<ExitStatus>),
    Tick,
}

impl Driver {
    async fn run(mut self, errors: impl Future<Output = String>, ended: &watch::Sender<bool>) {
        let first = self.dialect.begin();
        self.take(first);
        while self.status.is_none() {
            let wake = self.wake().await;
            self.handle(wake);
            if self.stopping.is_some_and(|at| at <= Instant::now()) {
                break;
            }
        }
        // The first process ended, or must: nothing of the tree goes on.
        let killed = self.tree.kill().await;
        if self.status.is_none() {
            self.status = self.child.wait().await.ok();
        }
        // Whoever waits for that need not read the events that are left.
        ended.send_replace(true);
        self.drain().await;
        let errors = tokio::time::timeout(EOF_WAIT, errors).await.unwrap_or_default();
        let exit = self.exit(killed, &errors);
        let last = self.dialect.exited(&exit);
        self.take(last);
        self.pending.push_back(RuntimeEvent::Exited(exit));
        self.deliver().await;
    }

    async fn wake(&mut self) -> Wake {
        let tick = self.next_tick();
        let Self { stop, commands, events, pending, outgoing, stdin, stdout, child, .. } = self;
        let (idle_stop, idle_events) = (self.stopping.is_some(), pending.is_empty());
        tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if !idle_stop => Wake::Stop,
            Some((command, reply)) = commands.recv() => Wake::Command(command, reply),
            () = events.closed(), if !idle_stop => Wake::Deaf,
            permit = events.reserve(), if !idle_events => {
                if let (Ok(permit), Some(event)) = (permit, pending.pop_front()) {
                    permit.send(event);
                }
                Wake::Sent
            }
            wrote = write(stdin, outgoing), if !outgoing.is_empty() => Wake::Wrote(wrote),
            line = read(stdout), if idle_events && stdout.is_some() => Wake::Line(line),
            status = child.wait() => Wake::Exited(status),
            () = tokio::time::sleep_until(tick) => Wake::Tick,
        }
    }

    fn handle(&mut self, wake: Wake) {
        match wake {
            Wake::Stop | Wake::Deaf => self.terminate(),
            Wake::Command(command, reply) => {
                let outcome = self.command(command);
                // Who asked may have gone.
                let _ = reply.send(outcome);
            }
            Wake::Sent => {}
            Wake::Wrote(Ok(written)) => self.wrote(written),
            Wake::Wrote(Err(_)) => {
                // It reads no more; its end says why.
                self.outgoing.clear();
                self.outgoing_bytes = 0;
                self.stdin = None;
            }
            Wake::Line(Ok(Some(line))) => {
                self.account();
                self.heard = Instant::now();
                let effects = self.dialect.line(line);
                self.take(effects);
            }
            Wake::Line(Ok(None) | Err(_)) => self.stdout = None,
            Wake::Exited(status) => {
                self.status = Some(status.unwrap_or_default());
            }
            Wake::Tick => self.tick(),
        }
    }

    fn command(&mut self, command: RunCommand) -> Result<(), CommandError> {
        if self.stopping.is_some() {
            return Err(CommandError::Ended);
        }
        if self.outgoing_bytes > OUTGOING_BYTES_MAX {
            let message = "the runtime does not read what it is told".to_owned();
            return Err(CommandError::WrongState { message });
        }
        self.account();
        let interrupt = command == RunCommand::Interrupt;
        let command = self.asks.incoming(command)?;
        let effects = self.dialect.command(command)?;
        self.heard = Instant::now();
        if interrupt {
            self.interrupted.get_or_insert(Instant::now() + INTERRUPT_WAIT);
        }
        self.take(effects);
        Ok(())
    }

    /// Takes over what a dialect wants done.
    fn take(&mut self, effects: Effects) {
        let Effects { events, writes, close_input, end } = effects;
        let mut refusals = Vec::new();
        for event in events {
            if matches!(event, RuntimeEvent::TurnEnded(_)) {
                self.interrupted = None;
                self.worked = Duration::ZERO;
            }
            match self.asks.outgoing(redact(&self.secrets, event)) {
                Outgoing::Tell(event) => self.pending.push_back(event),
                Outgoing::Refuse { id, why } => refusals.push((id, why)),
                Outgoing::Drop => {}
            }
        }
        for line in writes {
            self.outgoing_bytes += line.len();
            self.outgoing.push_back((line, 0));
        }
        if close_input {
            self.outgoing.push_back((Vec::new(), 0));
        }
        if end {
            self.terminate();
        }
        for (id, why) in refusals {
            let effects = self.dialect.refuse(&id, why);
            self.take(effects);
        }
    }

    /// Asks it to end; the kill follows.
    fn terminate(&mut self) {
        if self.stopping.is_none() {
            self.stopped = true;
            self.stopping = Some(Instant::now() + TERM_WAIT);
            self.tree.terminate();
        }
    }

    fn wrote(&mut self, written: usize) {
        let Some((line, done)) = self.outgoing.front_mut() else { return };
        *done += written;
        if *done < line.len() {
            return;
        }
        let closed = line.is_empty();
        self.outgoing_bytes = self.outgoing_bytes.saturating_sub(line.len());
        self.outgoing.pop_front();
        if closed {
            self.stdin = None;
        }
    }

    /// Adds the time since the last word to the turn's, if it worked meanwhile.
    fn account(&mut self) {
        let now = Instant::now();
        if self.dialect.activity() == Activity::Working && self.pending.is_empty() {
            self.worked += now.duration_since(self.accounted);
        }
        self.accounted = now;
    }

    fn next_tick(&self) -> Instant {
        let next = self.next_tick;
        [self.stopping, self.interrupted].into_iter().flatten().fold(next, Instant::min)
    }

    fn tick(&mut self) {
        self.account();
        let now = Instant::now();
        self.next_tick = now + TICK;
        if now.duration_since(self.looked) >= LOOK {
            self.looked = now;
            self.tree.look();
        }
        if self.interrupted.is_some_and(|at| at <= now) {
            // Its end closes the turn as interrupted.
            self.terminate();
        }
        if self.stopping.is_some() || self.dialect.activity() != Activity::Working {
            self.heard = now;
            return;
        }
        // A runtime that waits for its reader is not silent by itself.
        if !self.pending.is_empty() {
            self.heard = now;
        }
        let silent = self.limits.silence().filter(|max| now.duration_since(self.heard) > *max);
        let text = if let Some(max) = silent {
            format!("the runtime said nothing for {} s and was ended", max.as_secs())
        } else if self.worked > self.limits.turn() {
            format!("the turn took longer than {} s and was ended", self.limits.turn().as_secs())
        } else {
            return;
        };
        let effects = self.dialect.fail(ErrorType::TimeoutError, text);
        self.take(effects);
        self.terminate();
    }

    /// Reads what a dead program left in its pipe.
    async fn drain(&mut self) {
        while self.stdout.is_some() {
            self.deliver().await;
            let line = tokio::time::timeout(EOF_WAIT, read(&mut self.stdout)).await;
            match line {
                Ok(Ok(Some(line))) => {
                    let effects = self.dialect.line(line);
                    self.take(Effects { writes: Vec::new(), ..effects });
                }
                Ok(Ok(None) | Err(_)) | Err(_) => self.stdout = None,
            }
        }
    }

    /// Hands over everything that waits; gives up when nobody reads any more.
    async fn deliver(&mut self) {
        while !self.pending.is_empty() {
            tokio::select! {
                // A command must not cost an event: it is taken out once there is room for it.
                permit = self.events.reserve() => match (permit, self.pending.pop_front()) {
                    (Ok(permit), Some(event)) => permit.send(event),
                    _ => self.pending.clear(),
                },
                Some((_, reply)) = self.commands.recv() => {
                    // Who asked may have gone.
                    let _ = reply.send(Err(CommandError::Ended));
                }
            }
        }
    }

    fn exit(&self, killed: u32, errors: &str) -> Exit {
        use std::os::unix::process::ExitStatusExt as _;
        let (out_of_memory, forks_refused) = self.tree.wants();
        Exit {
            code: self.status.and_then(|status| status.code()),
            signal: self.status.and_then(|status| status.signal()),
            stopped: self.stopped,
            stderr: self.secrets.redact(errors),
            killed,
            out_of_memory,
            forks_refused,
        }
    }
}

async fn write(
    stdin: &mut Option<ChildStdin>,
    outgoing: &VecDeque<(Vec<u8>, usize)>,
) -> io::Result<usize> {
    let (Some(stdin), Some((line, done))) = (stdin, outgoing.front()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    if line.is_empty() {
        return Ok(0);
    }
    stdin.write(&line[*done..]).await
}

async fn read(stdout: &mut Option<Lines>) -> io::Result<Option<Line>> {
    match stdout {
        Some(lines) => lines.next().await,
        None => Ok(None),
    }
}

/// How an open turn ends when its program does.
pub(crate) fn end_of(exit: &Exit, interrupted: bool, name: &str) -> TurnEnd {
    if interrupted || exit.stopped {
        return TurnEnd::Interrupted;
    }
    let how = match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown end".to_owned(),
    };
    if exit.out_of_memory {
        let text = format!("{name} ran out of memory and was ended by the kernel");
        return TurnEnd::Failed { error: ErrorType::ContainerOom, text };
    }
    let said = last_lines(&exit.stderr, 5);
    let text = match said.is_empty() {
        true => format!("{name} ended in the middle of the turn: {how}"),
        false => format!("{name} ended in the middle of the turn: {how}: {said}"),
    };
    let text = text + refused_forks(exit);
    TurnEnd::Failed { error: ErrorType::GenericError, text }
}

/// For people, to be put behind how a program ended.
pub(crate) const fn refused_forks(exit: &Exit) -> &'static str {
    if exit.forks_refused { "; the limit of processes was reached" } else { "" }
}

fn last_lines(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
