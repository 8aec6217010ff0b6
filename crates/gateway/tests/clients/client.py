"""Drives a node with python-socketio and compares what it folds with what the node folds.

Environment: TROUPE_URL, TROUPE_USER, TROUPE_PASSWORD; optional TROUPE_TEAM (assistant),
TROUPE_SEED, TROUPE_RESUMES (12), TROUPE_DEADLINE (120 s for the whole run). With
TROUPE_INTERRUPT, the id of a Task with an attempt that a killed node left behind, nothing is
sent: it resumes from within that attempt.
Exits with 0 if everything matches, else prints what differs and exits with 1.
"""

import asyncio
import hashlib
import os
import random
import sys
import uuid

import aiohttp
import socketio

URL = os.environ["TROUPE_URL"].rstrip("/")
USER = os.environ["TROUPE_USER"]
PASSWORD = os.environ["TROUPE_PASSWORD"]
TEAM = os.environ.get("TROUPE_TEAM", "assistant")
SEED = int(os.environ.get("TROUPE_SEED") or random.randrange(2**32))
RESUMES = int(os.environ.get("TROUPE_RESUMES", "12"))
DEADLINE = float(os.environ.get("TROUPE_DEADLINE", "120"))
INTERRUPT = os.environ.get("TROUPE_INTERRUPT")
TEXT = "Say something about 😀👩‍👩‍👧, 中文字符 and é."
STEP = 30
# Long enough that a cancel finds it under way.
LONG = "Third: " + TEXT + " [[demo chunks=200 size=9 pace=20]]"
ENDS = ("chat:done", "chat:error", "chat:cancelled")


class Mismatch(Exception):
    """What the node says twice is not the same."""


def check(condition, text):
    if not condition:
        raise Mismatch(text)


def fold(frames, upto, start=None):
    """Rows of the transcript after the frames up to a seq. Python counts code points."""
    rows = {key: dict(row) for key, row in (start or {}).items()}
    for event, data in frames:
        if data["seq"] > upto:
            break
        row = rows.get(data.get("subtask_id"))
        if event == "chat:message":
            rows[data["subtask_id"]] = {
                "ordinal": data["message_id"],
                "content": data["content"],
                "attempt": 0,
            }
        elif event == "chat:edited":
            for removed in data["removed"]:
                rows.pop(removed, None)
        elif row is None or data.get("late"):
            continue
        elif event == "chat:start":
            check(data["attempt"] == row["attempt"] + 1, f"attempt out of order: {data}")
            row["attempt"] = data["attempt"]
            row["content"] = row["content"][: data["offset"]]
        elif event == "chat:chunk" and "content" in data:
            check(data["attempt"] == row["attempt"], f"a chunk of another attempt: {data}")
            check(data["offset"] == len(row["content"]), f"offset {data['offset']}, but "
                  f"{len(row['content'])} code points are there (seq {data['seq']})")
            row["content"] += data["content"]
        elif event == "chat:done":
            digest = hashlib.sha256(row["content"].encode()).hexdigest()
            check(data["offset"] == len(row["content"]), f"length at the end: {data}")
            check(data["sha256"] == digest, f"hash at the end: {data}")
    return rows


class Client:
    def __init__(self, http):
        self.http = http
        self.token = None

    async def login(self):
        body = {"user_name": USER, "password": PASSWORD}
        async with self.http.post(f"{URL}/api/v1/auth/login", json=body) as answer:
            check(answer.status == 200, f"login: {answer.status} {await answer.text()}")
            self.token = (await answer.json())["access_token"]

    async def get(self, path):
        headers = {"Authorization": f"Bearer {self.token}"}
        async with self.http.get(f"{URL}/api/v1{path}", headers=headers) as answer:
            check(answer.status == 200, f"{path}: {answer.status} {await answer.text()}")
            return await answer.json()

    async def turns(self, task):
        """All rows and the head at which they are folded."""
        while True:
            page = await self.get(f"/tasks/{task}/turns?limit=100")
            head, turns = page["head"], page["turns"]
            while page.get("before"):
                page = await self.get(f"/tasks/{task}/turns?limit=100&before={page['before']}")
                turns = page["turns"] + turns
            if page["head"] == head:
                break
        rows = {}
        for turn in turns:
            for row in turn["messages"]:
                attempt = row["attempts"][-1]["attempt"] if row["attempts"] else 0
                rows[row["subtask_id"]] = {
                    "ordinal": row["message_id"],
                    "content": row["content"],
                    "attempt": attempt,
                }
        return head, rows

    async def frames(self, task, upto):
        frames, after = [], 0
        while after < upto:
            page = await self.get(f"/tasks/{task}/frames?after={after}&limit=2000")
            check(page["frames"], f"no frames after {after} of {upto}")
            frames += [(item["event"], item["data"]) for item in page["frames"]]
            after = frames[-1][1]["seq"]
        return [frame for frame in frames if frame[1]["seq"] <= upto]


class Socket:
    """One connection; keeps frames in the order of their arrival."""

    def __init__(self, token):
        self.io = socketio.AsyncClient(reconnection=False)
        self.token = token
        self.frames = []
        # Seq before the first frame that is kept.
        self.base = 0
        # Names of the events without a seq.
        self.told = []
        self.news = asyncio.Event()

        async def any_event(event, data):
            if isinstance(data, dict) and "seq" in data:
                self.frames.append((event, data))
            else:
                self.told.append(event)
            self.news.set()

        self.io.on("*", any_event, namespace="/chat")

    async def open(self):
        await self.io.connect(
            URL, namespaces=["/chat"], auth={"token": self.token}, transports=["websocket"],
            wait_timeout=STEP,
        )
        return self

    async def ask(self, event, payload):
        answer = await self.io.call(event, payload, namespace="/chat", timeout=STEP)
        check("error" not in answer, f"{event}: {answer}")
        return answer

    async def until(self, condition, what):
        async def wait():
            while not condition():
                self.news.clear()
                await self.news.wait()

        try:
            await asyncio.wait_for(wait(), STEP)
        except asyncio.TimeoutError:
            seqs = [data["seq"] for _, data in self.frames]
            has = f"{len(seqs)} frames after {self.base}, the last {seqs[-1:]}, told {self.told}"
            raise Mismatch(f"waited in vain for {what}: has {has}") from None

    async def close(self):
        await self.io.disconnect()

    def ended(self, after):
        """Attempts that ended above a seq and are not tried again by themselves."""
        return [
            (event, data) for event, data in self.frames
            if data["seq"] > after and event in ENDS and not data.get("continues")
        ]

    def gapless(self, after):
        for event, data in self.frames:
            check(data["seq"] == after + 1, f"{event} {data['seq']} follows {after}")
            after = data["seq"]
        return after


async def settled(client, socket, task):
    """Waits until the socket has all that the node has; returns the node's rows and head."""
    head, rows = await client.turns(task)
    await socket.until(
        lambda: (socket.frames[-1][1]["seq"] if socket.frames else socket.base) >= head,
        f"seq {head}",
    )
    return head, rows


def compare(what, mine, theirs):
    check(set(mine) == set(theirs), f"{what}: rows {sorted(mine)} but {sorted(theirs)}")
    for key, row in theirs.items():
        for field in ("ordinal", "attempt", "content"):
            check(
                mine[key][field] == row[field],
                f"{what}: {field} of {key}:\n mine   {mine[key][field]!r}\n theirs {row[field]!r}",
            )


async def converse(client, socket, task):
    """A whole answer, a cancelled one, a retry, an edit."""
    await socket.until(lambda: socket.ended(0), "the end of the first answer")
    for text, cancel in (("Second: " + TEXT, False), (LONG, True)):
        head = socket.gapless(socket.base)
        await socket.ask("chat:send", {
            "task_id": task, "message": text, "client_message_id": str(uuid.uuid4()),
        })
        if cancel:
            await socket.until(
                lambda: any(e == "chat:start" and d["seq"] > head for e, d in socket.frames),
                "the start of an answer",
            )
            await socket.ask("chat:cancel", {"task_id": task})
        await socket.until(lambda: socket.ended(head), "the end of an answer")
    event, data = socket.ended(head)[-1]
    check(event == "chat:cancelled", f"a cancelled answer ended with {event}")
    head = socket.frames[-1][1]["seq"]
    await socket.ask("chat:retry", {"task_id": task, "subtask_id": data["subtask_id"]})
    await socket.until(lambda: socket.ended(head), "the end of the retry")
    head, rows = await settled(client, socket, task)
    people = {d["subtask_id"] for e, d in socket.frames
              if e == "chat:message" and d["role"] == "USER" and d["kind"] == "user"}
    mine = [(row["ordinal"], key) for key, row in rows.items() if key in people]
    _, last = max(mine)
    await socket.ask("chat:edit", {
        "task_id": task, "subtask_id": last, "message": "Edited: " + TEXT,
        "client_message_id": str(uuid.uuid4()),
    })
    await socket.until(lambda: socket.ended(head), "the end of the edited answer")


async def resume(client, task, after, head, known):
    """A fresh socket that resumes (not joins) from a seq; known: all frames up to there and more."""
    socket = await Socket(client.token).open()
    answer = await socket.ask("chat:resume", {"task_id": task, "after": after})
    if answer.get("rejoin"):
        check(head - after > 500, f"told to join anew from {after} of {head}")
        await socket.close()
        return
    socket.base = after
    now, theirs = await settled(client, socket, task)
    socket.gapless(after)
    before = fold(known, after)
    compare(f"resume after {after}", fold(socket.frames, now, before), theirs)
    stored = [frame for frame in await client.frames(task, now) if frame[1]["seq"] > after]
    live = [frame for frame in socket.frames if frame[1]["seq"] <= now]
    check(live == stored, f"frames after {after} differ from the stored ones")
    await socket.close()


async def resumes(client, task, rng):
    head, _ = await client.turns(task)
    known = await client.frames(task, head)
    seqs = [0, 1, head - 1, head] + [rng.randrange(head + 1) for _ in range(RESUMES)]
    for after in seqs:
        await resume(client, task, after, head, known)
    print(f"{len(seqs)} resumes up to seq {head} match")


def cut(frames):
    """Seqs of what an attempt said that was cut off and followed by another one."""
    lost = [data for event, data in frames
            if event == "chat:error" and data.get("type") == "lost" and data.get("continues")]
    check(lost, "no attempt was lost")
    row, attempt = lost[0]["subtask_id"], lost[0]["attempt"]
    own = [(event, data) for event, data in frames if data.get("subtask_id") == row]
    check(any(event == "chat:start" and data["attempt"] == attempt + 1 for event, data in own),
          "no attempt follows the one that was lost")
    said = [data["seq"] for event, data in own
            if event == "chat:chunk" and data["attempt"] == attempt and not data.get("late")]
    check(len(said) >= 3, f"the lost attempt said too little: {len(said)} chunks")
    return row, said


async def interrupted(client, task, rng):
    """Resumes from within an attempt that was cut off: while the next one runs, and after it."""
    between = None
    for when in ("while it is said again", "when all is said"):
        head, _ = await client.turns(task)
        known = await client.frames(task, head)
        row, seqs = cut(known)
        between = between or rng.choice(seqs[1:-1])
        for after in (seqs[0] - 1, seqs[0], between, seqs[-1]):
            await resume(client, task, after, head, known)
        print(f"resumes within a lost attempt ({seqs[0]} to {seqs[-1]}) match {when}")
        socket = await Socket(client.token).open()
        await socket.ask("chat:resume", {"task_id": task, "after": seqs[-1]})
        await socket.until(
            lambda: any(e == "chat:done" and d["subtask_id"] == row for e, d in socket.frames),
            "the end of the attempt that follows",
        )
        await socket.close()


async def run():
    rng = random.Random(SEED)
    async with aiohttp.ClientSession() as http:
        client = Client(http)
        await client.login()
        if INTERRUPT:
            await interrupted(client, INTERRUPT, rng)
            return
        socket = await Socket(client.token).open()
        key = str(uuid.uuid4())
        send = {"team_id": TEAM, "message": TEXT, "client_message_id": key}
        first = await socket.ask("chat:send", send)
        again = await socket.ask("chat:send", send)
        check(first == again, f"a repeated send: {first} and {again}")
        task = first["task_id"]
        join = await socket.ask("task:join", {"task_id": task})
        # What was before the join comes from the archive: the fold begins at the beginning.
        socket.frames[:0] = await client.frames(task, join["head"])
        await converse(client, socket, task)
        head, theirs = await settled(client, socket, task)
        socket.gapless(0)
        compare("live", fold(socket.frames, head), theirs)
        check(any("😀" in row["content"] and "中文" in row["content"] for row in theirs.values()),
              "the emoji and the Chinese of the message are there")
        print(f"live frames up to seq {head} match")
        await resumes(client, task, rng)
        await socket.close()


def main():
    print(f"seed {SEED}")
    try:
        asyncio.run(asyncio.wait_for(run(), DEADLINE))
    except (Mismatch, asyncio.TimeoutError, socketio.exceptions.SocketIOError) as error:
        print(f"MISMATCH (seed {SEED}): {type(error).__name__} {error}", file=sys.stderr)
        sys.exit(1)
    print("ok")


if __name__ == "__main__":
    main()
