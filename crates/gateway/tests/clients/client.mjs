// Drives a node with socket.io-client and compares what it folds with what the node folds.
//
// Environment: TROUPE_URL, TROUPE_USER, TROUPE_PASSWORD; optional TROUPE_TEAM (assistant),
// TROUPE_SEED, TROUPE_RESUMES (12), TROUPE_DEADLINE (120 s for the whole run). With
// TROUPE_INTERRUPT, the id of a Task with an attempt that a killed node left behind, nothing is
// sent: it resumes from within that attempt.
// Exits with 0 if everything matches, else prints what differs and exits with 1.

import { createHash, randomUUID } from "node:crypto";
import process from "node:process";
import { isDeepStrictEqual } from "node:util";
import { io } from "socket.io-client";

const env = process.env;
const URL = env.TROUPE_URL.replace(/\/+$/, "");
const TEAM = env.TROUPE_TEAM ?? "assistant";
const SEED = Number(env.TROUPE_SEED ?? Math.floor(Math.random() * 2 ** 32));
const RESUMES = Number(env.TROUPE_RESUMES ?? 12);
const DEADLINE_MS = Number(env.TROUPE_DEADLINE ?? 120) * 1000;
const STEP_MS = 30_000;
const TEXT = "Say something about 😀👩‍👩‍👧, 中文字符 and é.";
// Long enough that a cancel finds it under way.
const LONG = `Third: ${TEXT} [[demo chunks=200 size=9 pace=20]]`;
const ENDS = ["chat:done", "chat:error", "chat:cancelled"];

class Mismatch extends Error {}

function check(condition, text) {
  if (!condition) throw new Mismatch(text);
}

/** Offsets count code points, which JavaScript's `length` does not. */
const codePoints = (text) => Array.from(text);

/** Rows of the transcript after the frames up to a seq. */
function fold(frames, upto, start = new Map()) {
  const rows = new Map([...start].map(([key, row]) => [key, { ...row }]));
  for (const { event, data } of frames) {
    if (data.seq > upto) break;
    const row = rows.get(data.subtask_id);
    if (event === "chat:message") {
      const { message_id: ordinal, content } = data;
      rows.set(data.subtask_id, { ordinal, content, attempt: 0 });
    } else if (event === "chat:edited") {
      for (const removed of data.removed) rows.delete(removed);
    } else if (row === undefined || data.late) {
      continue;
    } else if (event === "chat:start") {
      check(data.attempt === row.attempt + 1, `attempt out of order: ${JSON.stringify(data)}`);
      row.attempt = data.attempt;
      row.content = codePoints(row.content).slice(0, data.offset).join("");
    } else if (event === "chat:chunk" && data.content !== undefined) {
      const there = codePoints(row.content).length;
      check(data.attempt === row.attempt, `a chunk of another attempt: ${JSON.stringify(data)}`);
      check(data.offset === there, `offset ${data.offset}, but ${there} are there (${data.seq})`);
      row.content += data.content;
    } else if (event === "chat:done") {
      const digest = createHash("sha256").update(row.content, "utf8").digest("hex");
      check(data.offset === codePoints(row.content).length, `length at the end of ${data.seq}`);
      check(data.sha256 === digest, `hash at the end of ${data.seq}`);
    }
  }
  return rows;
}

function compare(what, mine, theirs) {
  const keys = (rows) => [...rows.keys()].sort().join(" ");
  check(keys(mine) === keys(theirs), `${what}: rows ${keys(mine)} but ${keys(theirs)}`);
  for (const [key, row] of theirs) {
    for (const field of ["ordinal", "attempt", "content"]) {
      const [a, b] = [mine.get(key)[field], row[field]].map((value) => JSON.stringify(value));
      check(a === b, `${what}: ${field} of ${key}:\n mine   ${a}\n theirs ${b}`);
    }
  }
}

/** A small generator, so that a seed repeats a run. */
function generator(seed) {
  let state = seed >>> 0;
  return (below) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

let token;

async function request(method, path, body) {
  const answer = await fetch(`${URL}/api/v1${path}`, {
    method,
    headers: {
      ...(token && { authorization: `Bearer ${token}` }),
      ...(body && { "content-type": "application/json" }),
    },
    body: body && JSON.stringify(body),
    signal: AbortSignal.timeout(STEP_MS),
  });
  const text = await answer.text();
  check(answer.ok, `${method} ${path}: ${answer.status} ${text}`);
  return JSON.parse(text);
}

/** All rows, and the head at which they are folded. */
async function turns(task) {
  for (;;) {
    let page = await request("GET", `/tasks/${task}/turns?limit=100`);
    const { head } = page;
    let all = page.turns;
    while (page.before) {
      page = await request("GET", `/tasks/${task}/turns?limit=100&before=${page.before}`);
      all = [...page.turns, ...all];
    }
    if (page.head !== head) continue;
    const rows = new Map();
    for (const message of all.flatMap((turn) => turn.messages)) {
      const { subtask_id: id, message_id: ordinal, content, attempts } = message;
      rows.set(id, { ordinal, content, attempt: attempts.at(-1)?.attempt ?? 0 });
    }
    return { head, rows };
  }
}

async function storedFrames(task, upto) {
  const frames = [];
  let after = 0;
  while (after < upto) {
    const page = await request("GET", `/tasks/${task}/frames?after=${after}&limit=2000`);
    check(page.frames.length > 0, `no frames after ${after} of ${upto}`);
    frames.push(...page.frames);
    after = frames.at(-1).data.seq;
  }
  return frames.filter(({ data }) => data.seq <= upto);
}

/** One connection; keeps frames in the order of their arrival. */
class Socket {
  frames = [];
  base = 0;
  #waiting = new Set();

  static async open() {
    const self = new Socket();
    self.io = io(`${URL}/chat`, {
      auth: { token },
      transports: ["websocket"],
      forceNew: true,
      reconnection: false,
      timeout: STEP_MS,
    });
    self.io.onAny((event, data) => {
      if (data?.seq !== undefined) self.frames.push({ event, data });
      for (const look of [...self.#waiting]) look();
    });
    await new Promise((resolve, reject) => {
      self.io.once("connect", resolve);
      self.io.once("connect_error", (error) => reject(new Mismatch(`connect: ${error.message}`)));
    });
    return self;
  }

  async call(event, payload) {
    return this.io.timeout(STEP_MS).emitWithAck(event, payload);
  }

  async ask(event, payload) {
    const answer = await this.call(event, payload);
    check(answer.error === undefined, `${event}: ${JSON.stringify(answer)}`);
    return answer;
  }

  until(condition, what) {
    return new Promise((resolve, reject) => {
      const look = () => {
        if (!condition()) return;
        clearTimeout(timer);
        this.#waiting.delete(look);
        resolve();
      };
      const timer = setTimeout(() => {
        this.#waiting.delete(look);
        reject(new Mismatch(`waited in vain for ${what}`));
      }, STEP_MS);
      this.#waiting.add(look);
      look();
    });
  }

  /** Attempts that ended above a seq and are not tried again by themselves. */
  ended(after) {
    return this.frames.filter(
      ({ event, data }) => data.seq > after && ENDS.includes(event) && !data.continues,
    );
  }

  gapless(after) {
    for (const { event, data } of this.frames) {
      check(data.seq === after + 1, `${event} ${data.seq} follows ${after}`);
      after = data.seq;
    }
    return after;
  }

  close() {
    this.io.disconnect();
  }
}

/** Waits until the socket has all that the node has. */
async function settled(socket, task) {
  const { head, rows } = await turns(task);
  const there = () => (socket.frames.at(-1)?.data.seq ?? socket.base) >= head;
  await socket.until(there, `seq ${head}`);
  return { head, rows };
}

/** A whole answer, a cancelled one, a retry, an edit. */
async function converse(socket, task) {
  await socket.until(() => socket.ended(0).length > 0, "the end of the first answer");
  let head = 0;
  for (const [text, cancel] of [[`Second: ${TEXT}`, false], [LONG, true]]) {
    head = socket.gapless(socket.base);
    await socket.ask("chat:send", {
      task_id: task, message: text, client_message_id: randomUUID(),
    });
    if (cancel) {
      const started = ({ event, data }) => event === "chat:start" && data.seq > head;
      await socket.until(() => socket.frames.some(started), "the start of an answer");
      await socket.ask("chat:cancel", { task_id: task });
    }
    await socket.until(() => socket.ended(head).length > 0, "the end of an answer");
  }
  const last = socket.ended(head).at(-1);
  check(last.event === "chat:cancelled", `a cancelled answer ended with ${last.event}`);
  head = socket.frames.at(-1).data.seq;
  await socket.ask("chat:retry", { task_id: task, subtask_id: last.data.subtask_id });
  await socket.until(() => socket.ended(head).length > 0, "the end of the retry");
  const now = await settled(socket, task);
  const people = socket.frames.filter(
    ({ event, data }) => event === "chat:message" && data.kind === "user",
  );
  const own = people
    .filter(({ data }) => now.rows.has(data.subtask_id))
    .sort((a, b) => a.data.message_id - b.data.message_id)
    .at(-1);
  await socket.ask("chat:edit", {
    task_id: task,
    subtask_id: own.data.subtask_id,
    message: `Edited: ${TEXT}`,
    client_message_id: randomUUID(),
  });
  await socket.until(() => socket.ended(now.head).length > 0, "the end of the edited answer");
}

/** A fresh socket that resumes (not joins) from a seq; `known`: all frames up to there and more. */
async function resume(task, after, head, known) {
  const socket = await Socket.open();
  const answer = await socket.ask("chat:resume", { task_id: task, after });
  if (answer.rejoin) {
    check(head - after > 500, `told to join anew from ${after} of ${head}`);
    socket.close();
    return;
  }
  socket.base = after;
  const now = await settled(socket, task);
  socket.gapless(after);
  const mine = fold(socket.frames, now.head, fold(known, after));
  compare(`resume after ${after}`, mine, now.rows);
  const stored = (await storedFrames(task, now.head)).filter(({ data }) => data.seq > after);
  const live = socket.frames.filter(({ data }) => data.seq <= now.head);
  check(isDeepStrictEqual(live, stored), `frames after ${after} differ from the stored ones`);
  socket.close();
}

async function resumes(task, random) {
  const { head } = await turns(task);
  const known = await storedFrames(task, head);
  const seqs = [0, 1, head - 1, head, ...Array.from({ length: RESUMES }, () => random(head + 1))];
  for (const after of seqs) await resume(task, after, head, known);
  console.log(`${seqs.length} resumes up to seq ${head} match`);
}

/** Seqs of what an attempt said that was cut off and followed by another one. */
function cut(frames) {
  const lost = frames.find(
    ({ event, data }) => event === "chat:error" && data.type === "lost" && data.continues,
  );
  check(lost !== undefined, "no attempt was lost");
  const { subtask_id: row, attempt } = lost.data;
  const follows = ({ event, data }) =>
    event === "chat:start" && data.subtask_id === row && data.attempt === attempt + 1;
  check(frames.some(follows), "no attempt follows the one that was lost");
  const said = frames.filter(
    ({ event, data }) =>
      event === "chat:chunk" && data.subtask_id === row && data.attempt === attempt && !data.late,
  );
  check(said.length >= 3, `the lost attempt said too little: ${said.length} chunks`);
  return { row, seqs: said.map(({ data }) => data.seq) };
}

/** Resumes from within an attempt that was cut off: while the next one runs, and when it is over. */
async function interrupted(task, random) {
  const between = [];
  for (const pass of ["while it is said again", "when all is said"]) {
    const { head } = await turns(task);
    const known = await storedFrames(task, head);
    const { row, seqs } = cut(known);
    if (between.length === 0) between.push(seqs[1 + random(seqs.length - 2)]);
    for (const after of [seqs[0] - 1, seqs[0], between[0], seqs.at(-1)]) {
      await resume(task, after, head, known);
    }
    console.log(`resumes within a lost attempt (${seqs[0]} to ${seqs.at(-1)}) match ${pass}`);
    const socket = await Socket.open();
    await socket.ask("chat:resume", { task_id: task, after: seqs.at(-1) });
    const done = ({ event, data }) => event === "chat:done" && data.subtask_id === row;
    await socket.until(() => socket.frames.some(done), "the end of the attempt that follows");
    socket.close();
  }
}

async function run() {
  const credentials = { user_name: env.TROUPE_USER, password: env.TROUPE_PASSWORD };
  token = (await request("POST", "/auth/login", credentials)).access_token;
  if (env.TROUPE_INTERRUPT) {
    await interrupted(env.TROUPE_INTERRUPT, generator(SEED));
    return;
  }
  const socket = await Socket.open();
  const send = { team_id: TEAM, message: TEXT, client_message_id: randomUUID() };
  const first = await socket.ask("chat:send", send);
  const again = await socket.ask("chat:send", send);
  check(isDeepStrictEqual(first, again), "a repeated send gets another ack");
  const task = first.task_id;
  const join = await socket.ask("task:join", { task_id: task });
  // What was before the join comes from the archive: the fold begins at the beginning.
  socket.frames.unshift(...(await storedFrames(task, join.head)));
  await converse(socket, task);
  const { head, rows } = await settled(socket, task);
  socket.gapless(0);
  compare("live", fold(socket.frames, head), rows);
  const contents = [...rows.values()].map((row) => row.content);
  const whole = (text) => text.includes("😀") && text.includes("中文");
  check(contents.some(whole), "the emoji and the Chinese of the message are not there");
  console.log(`live frames up to seq ${head} match`);
  await resumes(task, generator(SEED));
  socket.close();
}

console.log(`seed ${SEED}`);
const deadline = setTimeout(() => {
  console.error(`MISMATCH (seed ${SEED}): not done in time`);
  process.exit(1);
}, DEADLINE_MS);
try {
  await run();
  console.log("ok");
} catch (error) {
  console.error(`MISMATCH (seed ${SEED}):`, error);
  process.exitCode = 1;
} finally {
  clearTimeout(deadline);
}
process.exit();
