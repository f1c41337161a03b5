// Stands between the clients and the servers, passes every call on as it came, and writes it down: one file of JSON
// lines a test, kept when the suite fails, and a list that the running test can read. It can also break a call on
// purpose, as a network does. The tests are told about it in LATENTD_WIRE and speak JSON to it:
//
//   POST /front {to}      a new address in front of a server; LATENTD_URL is the first one
//   POST /test {name}     from now on calls belong to this test; answers with the path of its log
//   GET  /calls           the test's calls so far, in the order they began; a web socket's has its frames
//   GET  /broken          what is wrong with their answers by the rules of rules.mjs, a list of words
//   POST /break {…}       breaks calls of this test: see `Break` below
//
// node wire.mjs DIRECTORY SERVER_URL prints its own address and the first front's.

import { appendFileSync, mkdirSync } from "node:fs";
import { createServer, request as connect } from "node:http";
import { join } from "node:path";
import { frames } from "./frames.mjs";
import { broken } from "./rules.mjs";

const [directory, firstServer] = process.argv.slice(2);
const KEPT_BYTES = 64 * 1024;
/** After that many milliseconds the server has surely begun with a call. */
const BEGUN_MS = 300;
const readable = (type) => /json|event-stream|^text\//.test(type ?? "");

/**
 * What happens to the next `times` calls of `method` whose path matches the pattern `path`. Before the server sees the
 * call: `delay` it by milliseconds, answer it with `{status, headers, body}`, or close its connection (`drop: "call"`).
 * While the server works on it (`drop: "begun"`), or when it answered (`drop: "answer"`): close its connection.
 * @typedef {{method?: string, path?: string, times?: number, delay?: number, drop?: string, answer?: object}} Break
 */

/** The test that calls belong to now. */
let current = begin("before the first test");

function begin(name) {
  const path = join(directory, `${name.replace(/[^\w.-]+/g, "-").slice(0, 120)}.jsonl`);
  return { path, calls: [], breaks: [] };
}

/** Listens on a free port of this machine; returns the address. */
async function listen(server) {
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${server.address().port}`;
}

function front(to) {
  const { hostname, port } = new URL(to);
  const server = createServer({ requestTimeout: 0 }, (call, reply) => pass(call, reply, { hostname, port }));
  server.on("upgrade", (call, socket, head) => upgrade(call, socket, head, { hostname, port }));
  return listen(server);
}

/** Collects the first bytes of a body as they pass, and counts all. */
function tap(stream, done) {
  const chunks = [];
  let bytes = 0;
  stream.on("data", (chunk) => {
    if (bytes < KEPT_BYTES) chunks.push(chunk);
    bytes += chunk.length;
  });
  stream.on("close", () => done({ bytes, text: Buffer.concat(chunks).subarray(0, KEPT_BYTES).toString() }));
}

async function pass(call, reply, server) {
  const test = current;
  const note = open(test, call);
  tap(call, ({ bytes, text }) => {
    note.sent_bytes = bytes;
    if (readable(call.headers["content-type"])) note.sent = text;
  });
  reply.on("close", () => {
    note.ended = reply.writableFinished ? "answered" : "broken";
    appendFileSync(test.path, JSON.stringify(note) + "\n");
  });
  const fault = breaking(test, call);
  if (fault?.delay) {
    call.pause();
    await new Promise((resolve) => setTimeout(resolve, fault.delay));
  }
  if (fault?.drop === "call") return call.socket.destroy();
  if (fault?.answer) {
    call.resume();
    await new Promise((resolve) => call.on("end", resolve));
    note.status = fault.answer.status;
    return reply.writeHead(fault.answer.status, fault.answer.headers).end(fault.answer.body);
  }
  const onward = connect({ ...server, method: call.method, path: call.url, headers: pairs(call.rawHeaders), agent: false });
  onward.on("response", (answer) => {
    note.status = answer.statusCode;
    note.answer_headers = answer.headers;
    tap(answer, ({ bytes, text }) => {
      if (!answer.complete) return;
      note.answer_bytes = bytes;
      if (readable(answer.headers["content-type"])) note.answer = text;
    });
    if (fault?.drop === "answer") return answer.resume().on("end", () => call.socket.destroy());
    reply.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders).flushHeaders();
    answer.on("error", () => reply.destroy());
    answer.pipe(reply);
  });
  onward.on("error", (error) => {
    note.failed = String(error);
    call.socket.destroy();
  });
  // A client that hangs up is seen to hang up.
  reply.on("close", () => reply.writableFinished || onward.destroy());
  call.pipe(onward);
  if (fault?.drop === "begun") onward.on("finish", () => setTimeout(() => call.socket.destroy(), BEGUN_MS));
}

function open(test, call) {
  const { method, headers, rawHeaders } = call;
  const note = { began: new Date().toISOString(), method, url: meant(call), headers, raw_headers: pairs(rawHeaders) };
  test.calls.push(note);
  return note;
}

/** Path and query of a call; one that came to the proxy says in a header what it is for. */
function meant({ url, headers }) {
  const target = headers["x-fal-target-url"];
  if (!url.startsWith("/api/fal/proxy") || !URL.canParse(target ?? "")) return url;
  const { host, pathname, search } = new URL(target);
  return `${host === "queue.fal.run" ? "/queue" : ""}${pathname}${search}`;
}

function breaking(test, call) {
  const { method } = call;
  const fits = (fault) => (fault.method ?? method) === method && new RegExp(fault.path ?? "").test(meant(call));
  const fault = test.breaks.find((fault) => fault.times > 0 && fits(fault));
  if (fault) fault.times -= 1;
  return fault;
}

const pairs = (raw) => raw.flatMap((name, at) => (at % 2 ? [] : [[name, raw[at + 1]]]));

/** A web socket: its handshake and its frames are written down as they pass. */
function upgrade(call, socket, head, server) {
  const test = current;
  const note = open(test, call);
  const onward = connect({ ...server, method: call.method, path: call.url, headers: pairs(call.rawHeaders), agent: false });
  socket.on("close", () => appendFileSync(test.path, JSON.stringify(note) + "\n"));
  const answer = (response) => {
    note.status = response.statusCode;
    note.answer_headers = response.headers;
    const lines = pairs(response.rawHeaders).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`HTTP/1.1 ${response.statusCode} ${response.statusMessage}\r\n${lines.join("")}\r\n`);
  };
  onward.on("upgrade", (response, far, farHead) => {
    answer(response);
    note.frames = [];
    const heard = (from, stream, first) => {
      const hear = frames((frame) => note.frames.push({ from, ...frame }));
      hear(first);
      stream.on("data", hear);
    };
    heard("client", socket, head);
    heard("server", far, farHead);
    far.write(head);
    socket.write(farHead);
    far.pipe(socket).pipe(far);
    for (const end of [far, socket]) end.on("error", () => (far.destroy(), socket.destroy()));
  });
  onward.on("response", (response) => (answer(response), response.pipe(socket)));
  onward.on("error", () => socket.destroy());
  onward.end();
}

async function control(call, reply) {
  const chunks = [];
  for await (const chunk of call) chunks.push(chunk);
  const asked = chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
  const calls = {
    "POST /front": async () => ({ url: await front(asked.to) }),
    "POST /test": () => ({ path: (current = begin(asked.name)).path }),
    "GET /calls": () => current.calls,
    "GET /broken": () => current.calls.flatMap(broken),
    "POST /break": () => current.breaks.push({ times: 1, ...asked }),
  };
  const answer = await calls[`${call.method} ${call.url}`]();
  reply.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
}

mkdirSync(directory, { recursive: true });
console.log(await listen(createServer(control)), await front(firstServer));
