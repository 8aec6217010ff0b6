"""Runs an Agno agent, or a team of them, for Troupe.

First line of standard input: the job, a JSON object. Every further line: a command. Standard
output: one event of Troupe's event model per line. Nothing else is written there: whatever
libraries print goes to standard error.
"""

import asyncio
import itertools
import json
import os
import signal
import sys

# Loggers of libraries write to standard output: they get standard error instead.
OUT = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
os.dup2(2, 1)

OUTPUT_BYTES_MAX = 64 * 1024
FILE_BYTES_MAX = 256 * 1024
COMMAND_SECONDS_MAX = 600
MCP_CONNECT_SECONDS_MAX = 30
MCP_CALL_SECONDS_MAX = 600
# What servers of models take.
TOOL_NAME_CHARS_MAX = 64


def say(event, **fields):
    OUT.write(json.dumps({"event": event, **fields}, ensure_ascii=False, default=str) + "\n")


def cut(text):
    return text if len(text) <= OUTPUT_BYTES_MAX else text[:OUTPUT_BYTES_MAX] + "\n[cut]"


class Desk:
    """What a person is asked, and the programs that tools run."""

    def __init__(self, job):
        self.numbers = itertools.count(1)
        self.open = {}
        self.groups = set()
        self.stops = 0
        self.permissions = job["permissions"]
        self.grants = {(g["tool"], g.get("command")) for g in job["grants"]}

    async def wait(self, ident):
        future = asyncio.get_running_loop().create_future()
        self.open[ident] = future
        try:
            return await future
        finally:
            self.open.pop(ident, None)

    async def allowed(self, who, tool, title, arguments, command=None):
        """None if it may; else what the model is told. `who` is the member that asks."""
        edit = tool == "write_file"
        if self.permissions == "bypass" or (edit and self.permissions == "accept_edits"):
            return None
        if self.permissions == "read_only":
            return "Refused: this Bot may read only."
        if (tool, command) in self.grants or (tool, None) in self.grants:
            return None
        ident = f"agno-{next(self.numbers)}"
        always = {"tool": tool, "command": command}
        reason = who and f"{who}, a member of the team, asks."
        say("approval", id=ident, tool=tool, title=title, input=arguments, always=always,
            reason=reason)
        answer = await self.wait(ident)
        if answer["decision"] == "allow_always":
            self.grants.add((tool, command))
        if answer["decision"] in ("allow", "allow_always"):
            return None
        return answer["words"] or "Denied by a person."

    async def ask(self, who, question, options):
        ident = f"agno-{next(self.numbers)}"
        options = [{"label": str(option), "description": ""} for option in options or []]
        asked = {"id": "answer", "header": who or "", "text": question, "options": options}
        say("question", id=ident, questions=[{**asked, "multiple": False}])
        return (await self.wait(ident))["words"]

    def settle(self, ident, answer):
        future = self.open.get(ident)
        if future and not future.done():
            future.set_result(answer)

    def stop(self):
        for ident in list(self.open):
            say("closed", id=ident, how="withdrawn")
            self.settle(ident, {"decision": "withdrawn", "words": "Withdrawn."})
        self.stops += 1
        for group in list(self.groups):
            end_group(group)


def end_group(group):
    try:
        os.killpg(group, signal.SIGKILL)
    except ProcessLookupError:
        pass


def public_env():
    """The variables of this process without its keys, which are not for the programs that it runs."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("TROUPE_MODEL", "TROUPE_MCP"))}


def tools(desk, roots, who):
    async def run_command(command: str) -> str:
        """Runs a shell command in the workspace and returns its output and exit code."""
        refused = await desk.allowed(who, "run_command", command, {"command": command}, command)
        if refused:
            return refused
        stops = desk.stops
        process = await asyncio.create_subprocess_exec(
            "/bin/sh", "-c", command, env=public_env(), start_new_session=True,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT)
        desk.groups.add(process.pid)
        kept = bytearray()

        async def read():
            while piece := await process.stdout.read(16 * 1024):
                kept.extend(piece[: OUTPUT_BYTES_MAX - len(kept)])
            await process.wait()

        try:
            # A stop that came while the program was being started did not know its group yet.
            if desk.stops != stops:
                return "Interrupted."
            await asyncio.wait_for(read(), COMMAND_SECONDS_MAX)
        except asyncio.TimeoutError:
            return "It took too long and was ended."
        finally:
            # Whatever ended the wait, a cancel too, the program does not outlive its tool call.
            if process.returncode is None:
                end_group(process.pid)
                await process.wait()
            desk.groups.discard(process.pid)
        return f"{kept.decode('utf-8', 'replace')}\n[exit code {process.returncode}]"

    async def write_file(path: str, content: str) -> str:
        """Writes a text file; the path is relative to the workspace."""
        refused = await desk.allowed(who, "write_file", path, {"path": path, "content": content})
        if refused:
            return refused
        if os.path.dirname(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(content)
        return f"Wrote {path}."

    async def outside(tool, path):
        """None if the path may be read: what lies elsewhere, this process's keys too, is asked for."""
        real = os.path.realpath(path)
        if any(real == root or real.startswith(root + os.sep) for root in roots):
            return None
        return await desk.allowed(who, tool, real, {"path": real})

    async def read_file(path: str) -> str:
        """Reads a text file; the path is relative to the workspace."""
        refused = await outside("read_file", path)
        if refused:
            return refused
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read(FILE_BYTES_MAX)

    async def list_files(path: str = ".") -> str:
        """Lists a directory of the workspace."""
        refused = await outside("list_files", path)
        if refused:
            return refused
        return "\n".join(sorted(os.listdir(path))[:1000])

    async def ask_person(question: str, options: list[str] | None = None) -> str:
        """Asks the person who gave the task, and returns the answer."""
        return await desk.ask(who, question, options)

    return [run_command, write_file, read_file, list_files, ask_person]


def told(server):
    """A server with its values, which travel as variables of this process."""
    values = {f: {k: os.environ[v] for k, v in server[f].items()} for f in ("env", "headers") if f in server}
    return {**server, **values, **({"url": os.environ[server["url"]]} if "url" in server else {})}


class Servers:
    """The MCP servers of all agents, each connected once. What they can do, a person allows."""

    def __init__(self, desk, is_team):
        self.desk = desk
        self.is_team = is_team
        self.kits = {}
        self.names = set()

    def of(self, agent):
        """What the servers of an agent offer, as toolkits."""
        keys = (self.key(name, server) for name, server in agent["mcp_servers"].items())
        return [self.kits[key] for key in keys if key in self.kits]

    def key(self, name, server):
        return json.dumps([name, told(server)], sort_keys=True)

    async def connect(self, agents):
        """Connects all of them side by side; who is not there is said, and its tools are missing."""
        every = {self.key(n, s): (n, told(s)) for a in agents for n, s in a["mcp_servers"].items()}
        kits = await asyncio.gather(*(self.one(n, s) for n, s in every.values()))
        for key, (name, _), kit in zip(every, every.values(), kits):
            if kit:
                self.name(name, kit)
                self.kits[key] = kit

    async def one(self, name, server):
        try:
            from agno.tools.mcp import MCPTools
            from mcp import StdioServerParameters

            if server["type"] == "stdio":
                program = StdioServerParameters(
                    command=server["command"], args=server["args"],
                    env={**public_env(), **server["env"]}, cwd=os.getcwd())
                kit = MCPTools(transport="stdio", server_params=program,
                               timeout_seconds=MCP_CALL_SECONDS_MAX)
            else:
                kit = MCPTools(transport="streamable-http", url=server["url"],
                               headers=server["headers"], timeout_seconds=MCP_CALL_SECONDS_MAX)
            # Its `connect` keeps the reason to itself.
            await asyncio.wait_for(kit.__aenter__(), MCP_CONNECT_SECONDS_MAX)
            return kit
        except ImportError:
            why = "pip install 'agno[mcp]' on this device"
        except asyncio.TimeoutError:
            why = f"no answer within {MCP_CONNECT_SECONDS_MAX} s"
        except Exception as error:  # noqa: BLE001 - the agent works without it, and that is said
            why = str(error) or type(error).__name__
        say("notice", code="mcp_failed",
            text=f"The MCP server {name} is not there ({why}); its tools are missing")
        return None

    def name(self, server, kit):
        """Names its tools as models take names, each once, whatever server has it."""
        functions = list(kit.functions.values())
        kit.functions.clear()
        for function in functions:
            name = f"mcp__{server}__{function.name}"
            name = "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in name)
            base, n = name[:TOOL_NAME_CHARS_MAX], 1
            name = base
            while name in self.names:
                n += 1
                name = f"{base[:TOOL_NAME_CHARS_MAX - 4]}_{n}"
            self.names.add(name)
            function.name = name
            function.tool_hooks = [self.gate(name)]
            kit.functions[name] = function

    def gate(self, tool):
        async def gate(function_name, function_call, arguments, agent=None):
            # A team's leader asks as the team.
            who = agent.name if agent and self.is_team else None
            refused = await self.desk.allowed(who, tool, tool, arguments)
            return refused or await function_call(**arguments)

        return gate


def member():
    """Agents whose leader reads how they failed: Agno gives it an empty result."""
    from agno.agent import Agent
    from agno.run.agent import RunContentEvent

    class Member(Agent):
        def arun(self, *args, **kwargs):
            run = super().arun(*args, **kwargs)
            return self.told(run) if kwargs.get("stream") else run

        async def told(self, run):
            async for event in run:
                if getattr(event, "event", None) == "RunError":
                    why = event.content or "no reason was told"
                    yield RunContentEvent(content=f"\n\nThis member failed: {why}", run_id=event.run_id,
                                          agent_id=self.id, agent_name=self.name)
                yield event

    return Member


async def build(job, desk):
    from agno.agent import Agent
    from agno.db.sqlite import SqliteDb
    from agno.models.openai import OpenAILike
    from agno.team import Team

    servers = Servers(desk, len(job["agents"]) > 1)
    await servers.connect(job["agents"])
    roots = [os.path.realpath(path) for path in (os.getcwd(), *job["skills"])]

    def part(agent, who=None):
        model = agent["model"]
        llm = OpenAILike(
            id=model["model"], base_url=model["base_url"], api_key=os.environ[model["key"]],
            max_retries=model["retries"], timeout=600)
        return {"name": agent["name"], "model": llm, "instructions": agent["instructions"],
                "tools": tools(desk, roots, who) + servers.of(agent), "telemetry": False}

    bot, *members = job["agents"]
    database = SqliteDb(db_file=os.path.join(job["state_dir"], "sessions.db"))
    common = {"id": "bot", "db": database, "add_history_to_context": True, **part(bot)}
    if not members:
        return Agent(**common)
    members = [member()(id=m["name"], role=m["role"], **part(m, m["name"])) for m in members]
    return Team(members=members, **common)


class Teller:
    """Turns Agno's events into Troupe's."""

    DELEGATE = ("delegate_task_to_member", "delegate_task_to_members")

    def __init__(self, job):
        self.team = len(job["agents"]) > 1
        # Open delegations: the member of each, and which one a member's run belongs to.
        self.delegated = {}
        self.runs = {}
        # What a member said of its message so far, by delegation: it is told whole.
        self.said = {}
        # Tokens of members since the leader's last call of its model.
        self.members = {}
        self.tools = set()
        self.error = None
        self.cancelled = False
        self.failed = set()

    def is_own(self, e):
        return not self.team or e.event.startswith("Team")

    def parent(self, e):
        """The delegation that a member's event belongs to; members work side by side."""
        run = getattr(e, "run_id", None)
        if run not in self.runs:
            member = getattr(e, "agent_id", None)
            free = [d for d, m in self.delegated.items() if d not in self.runs.values()]
            fits = [d for d in free if self.delegated[d] == member] or free or [*self.delegated]
            self.runs[run] = fits[0] if fits else None
        return self.runs[run]

    def usage(self, e):
        count = lambda name: getattr(e, name, None) or 0
        return {"model": str(getattr(e, "model", None) or ""), "input": count("input_tokens"),
                "output": count("output_tokens"), "cached": count("cache_read_tokens")}

    def tell(self, e):
        name = e.event
        own = self.is_own(e)
        name = name.removeprefix("Team")
        parent = None if own else self.parent(e)
        if name in ("RunContent", "RunIntermediateContent"):
            if thought := getattr(e, "reasoning_content", None):
                say("thinking", text=thought, parent=parent)
            if isinstance(e.content, str) and e.content:
                if own:
                    say("text", text=e.content, parent=None)
                else:
                    self.said[parent] = self.said.get(parent, "") + e.content
        elif name == "ToolCallStarted" and e.tool:
            self.started(e.tool, self.ident(e, own), parent)
        elif name in ("ToolCallCompleted", "ToolCallError") and e.tool:
            self.ended(e.tool, self.ident(e, own), name == "ToolCallError")
        elif name == "ModelRequestCompleted":
            usage = self.usage(e)
            if own:
                # What members used is the leader's next step's: nothing else counts it.
                for name, count in self.members.items():
                    usage[name] += count
                self.members = {}
                say("model_done", usage=usage)
            else:
                for name in ("input", "output", "cached"):
                    self.members[name] = self.members.get(name, 0) + usage[name]
                self.whole(parent)
        elif name == "RunError" and own:
            self.error = str(e.content or "the run failed")
        elif name == "RunError":
            self.failed.add(parent)
        elif name == "RunCancelled":
            self.cancelled = True

    def whole(self, parent):
        if (text := self.said.pop(parent, "")) and parent:
            say("text", text=text + "\n\n", parent=parent)

    def ident(self, e, own):
        """Some servers of models number calls in each answer: a member's are told apart by its run."""
        return e.tool.tool_call_id if own else f"{str(e.run_id)[:8]}-{e.tool.tool_call_id}"

    def started(self, tool, ident, parent):
        args = tool.tool_args or {}
        self.tools.add(ident)
        if parent is None and tool.tool_name in self.DELEGATE:
            self.delegated[ident] = args.get("member_id")
            say("subagent_started", id=ident, title=f"{args.get('member_id', 'all')}: {args.get('task', '')}")
            return
        title = args.get("command") or args.get("path") or args.get("question") or tool.tool_name
        say("tool_started", id=ident, tool=tool.tool_name, title=str(title), input=args, parent=parent)

    def ended(self, tool, ident, failed):
        if ident not in self.tools:
            return
        self.tools.discard(ident)
        failed = failed or bool(tool.tool_call_error) or ident in self.failed
        if ident in self.delegated:
            del self.delegated[ident]
            self.whole(ident)
            say("subagent_ended", id=ident, ok=not failed)
        output = cut(str(tool.result if tool.result is not None else ""))
        say("tool_ended", id=ident, outcome="failed" if failed else "done", output=output)


class Runner:
    def __init__(self, job, desk, runnable):
        self.job = job
        self.desk = desk
        self.runnable = runnable
        self.task = None
        self.run_id = None
        self.interrupted = False

    async def turn(self, text):
        teller, failure = Teller(self.job), None
        before = asyncio.all_tasks()
        say("turn_started")
        try:
            stream = self.runnable.arun(
                text, stream=True, stream_events=True, session_id=self.job["session_id"],
                user_id="troupe")
            async for event in stream:
                if hasattr(event, "event"):
                    if teller.is_own(event):
                        self.run_id = getattr(event, "run_id", None) or self.run_id
                    teller.tell(event)
        except asyncio.CancelledError:
            self.interrupted = True
        except Exception as error:  # noqa: BLE001 - whatever a library raises ends the turn only
            failure = f"{type(error).__name__}: {error}"
        # Members that worked side by side do not end with the stream that was cut.
        left = asyncio.all_tasks() - before
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=2)
        failure = teller.error or failure
        if self.interrupted or teller.cancelled:
            say("turn_ended", end="interrupted")
        elif failure:
            say("turn_ended", end="failed", error="generic_error", text=failure)
        else:
            say("turn_ended", end="completed")
        self.task = None

    def begin(self, text):
        self.interrupted = False
        self.task = asyncio.ensure_future(self.turn(text))

    async def interrupt(self):
        task = self.task
        if not task:
            return
        self.interrupted = True
        self.desk.stop()
        if self.run_id:
            await type(self.runnable).acancel_run(self.run_id)
        done, _ = await asyncio.wait({task}, timeout=1)
        if not done:
            task.cancel()

    async def command(self, line):
        name = line["command"]
        if name == "input":
            self.begin(line["text"])
        elif name == "settle":
            self.desk.settle(line["id"], line)
        elif name == "interrupt":
            await self.interrupt()


async def main():
    reader = asyncio.StreamReader(limit=64 * 1024 * 1024)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    job = json.loads(await reader.readline())
    from importlib.metadata import version

    desk = Desk(job)
    runner = Runner(job, desk, await build(job, desk))
    known = job["known_session"]
    say("session", session=job["session_id"], version=version("agno"),
        model=job["agents"][0]["model"]["model"], resumed=known)
    runner.begin(job["prompt"])
    while line := await reader.readline():
        await runner.command(json.loads(line))
    # No more commands: the turn that runs comes to its end.
    if runner.task:
        await runner.task


asyncio.run(main())
OUT.flush()
# Threads of libraries would keep the process for a while.
os._exit(0)
