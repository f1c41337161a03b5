// A recording proxy between the clients and the servers: forwards every call unchanged and records it, in one JSON lines
// file a test, kept when the suite fails, and in a list that the running test can read. It can also make a call fail on
// purpose, as a network does. Tests control it by JSON at the address in LATENTD_WIRE:
//
//   POST /proxy {to}      a new proxy address for a server; LATENTD_URL is the first one
//   POST /test {name}     assigns the calls from now on to this test; returns the path of its record
//   GET  /calls           the test's calls so far, in the order they began; that of a web socket has its frames
//   GET  /violations      the rules of rules.mjs that their responses violate, a list of messages
//   POST /break {…}       makes calls of this test fail: see `Break` below
//
// node wire.mjs DIRECTORY SERVER_URL prints its control address and the first proxy's.

import { appendFileSync, mkdirSync } from "node:fs";
import { createServer, request as connect } from "node:http";
import { join } from "node:path";
import { frames } from "./frames.mjs";
import { violations } from "./rules.mjs";

const [directory, firstServer] = process.argv.slice(2);
const RECORDED_BYTES = 64 * 1024;
/** Milliseconds after which the server has begun to handle a call. */
const BEGUN_MS = 300;
const readable = (type) => /json|event-stream|^text\//.test(type ?? "");

/**
 * What happens to the next `times` calls of `method` whose path matches the pattern `path`. Before the server sees the
 * call: `delay` it by milliseconds, answer it with `{status, headers, body}`, or close its connection (`drop: "call"`).
 * While the server works on it (`drop: "begun"`), or when it answered (`drop: "answer"`): close its connection.
 * @typedef {{method?: string, path?: string, times?: number, delay?: number, drop?: string, answer?: object}} Break
 */

/** The test to which calls are assigned now. */
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

function proxy(to) {
  const { hostname, port } = new URL(to);
  const server = createServer({ requestTimeout: 0 }, (call, reply) => forward(call, reply, { hostname, port }));
  server.on("upgrade", (call, socket, head) => upgrade(call, socket, head, { hostname, port }));
  return listen(server);
}

/** Collects the first bytes of a body while it is forwarded, and counts all. */
function tap(stream, done) {
  const chunks = [];
  let bytes = 0;
  stream.on("data", (chunk) => {
    if (bytes < RECORDED_BYTES) chunks.push(chunk);
    bytes += chunk.length;
  });
  stream.on("close", () => done({ bytes, text: Buffer.concat(chunks).subarray(0, RECORDED_BYTES).toString() }));
}

async function forward(call, reply, server) {
  const test = current;
  const record = open(test, call);
  tap(call, ({ bytes, text }) => {
    record.sent_bytes = bytes;
    if (readable(call.headers["content-type"])) record.sent = text;
  });
  reply.on("close", () => {
    record.ended = reply.writableFinished ? "answered" : "broken";
    appendFileSync(test.path, JSON.stringify(record) + "\n");
  });
  const fault = faultFor(test, call);
  if (fault?.delay) {
    call.pause();
    await new Promise((resolve) => setTimeout(resolve, fault.delay));
  }
  if (fault?.drop === "call") return call.socket.destroy();
  if (fault?.answer) {
    call.resume();
    await new Promise((resolve) => call.on("end", resolve));
    record.status = fault.answer.status;
    return reply.writeHead(fault.answer.status, fault.answer.headers).end(fault.answer.body);
  }
  const upstream = connect({ ...server, method: call.method, path: call.url, headers: pairs(call.rawHeaders), agent: false });
  upstream.on("response", (answer) => {
    record.status = answer.statusCode;
    record.answer_headers = answer.headers;
    tap(answer, ({ bytes, text }) => {
      if (!answer.complete) return;
      record.answer_bytes = bytes;
      if (readable(answer.headers["content-type"])) record.answer = text;
    });
    if (fault?.drop === "answer") return answer.resume().on("end", () => call.socket.destroy());
    reply.writeHead(answer.statusCode, answer.statusMessage, answer.rawHeaders).flushHeaders();
    answer.on("error", () => reply.destroy());
    answer.pipe(reply);
  });
  upstream.on("error", (error) => {
    record.failed = String(error);
    call.socket.destroy();
  });
  // A client that closes its connection closes it at the server too.
  reply.on("close", () => reply.writableFinished || upstream.destroy());
  call.pipe(upstream);
  if (fault?.drop === "begun") upstream.on("finish", () => setTimeout(() => call.socket.destroy(), BEGUN_MS));
}

function open(test, call) {
  const { method, headers, rawHeaders } = call;
  const record = { began: new Date().toISOString(), method, url: targetOf(call), headers, raw_headers: pairs(rawHeaders) };
  test.calls.push(record);
  return record;
}

/** Path and query of a call; a call to fal's proxy route has its target URL in a header. */
function targetOf({ url, headers }) {
  const target = headers["x-fal-target-url"];
  if (!url.startsWith("/api/fal/proxy") || !URL.canParse(target ?? "")) return url;
  const { host, pathname, search } = new URL(target);
  return `${host === "queue.fal.run" ? "/queue" : ""}${pathname}${search}`;
}

function faultFor(test, call) {
  const { method } = call;
  const fits = (fault) => (fault.method ?? method) === method && new RegExp(fault.path ?? "").test(targetOf(call));
  const fault = test.breaks.find((fault) => fault.times > 0 && fits(fault));
  if (fault) fault.times -= 1;
  return fault;
}

const pairs = (raw) => raw.flatMap((name, at) => (at % 2 ? [] : [[name, raw[at + 1]]]));

/** Forwards a web socket, and records its handshake and its frames. */
function upgrade(call, socket, head, server) {
  const test = current;
  const record = open(test, call);
  const upstream = connect({ ...server, method: call.method, path: call.url, headers: pairs(call.rawHeaders), agent: false });
  socket.on("close", () => appendFileSync(test.path, JSON.stringify(record) + "\n"));
  const answer = (response) => {
    record.status = response.statusCode;
    record.answer_headers = response.headers;
    const lines = pairs(response.rawHeaders).map(([name, value]) => `${name}: ${value}\r\n`);
    socket.write(`HTTP/1.1 ${response.statusCode} ${response.statusMessage}\r\n${lines.join("")}\r\n`);
  };
  upstream.on("upgrade", (response, far, farHead) => {
    answer(response);
    record.frames = [];
    const recordFrames = (from, stream, first) => {
      const parse = frames((frame) => record.frames.push({ from, ...frame }));
      parse(first);
      stream.on("data", parse);
    };
    recordFrames("client", socket, head);
    recordFrames("server", far, farHead);
    far.write(head);
    socket.write(farHead);
    far.pipe(socket).pipe(far);
    for (const end of [far, socket]) end.on("error", () => (far.destroy(), socket.destroy()));
  });
  upstream.on("response", (response) => (answer(response), response.pipe(socket)));
  upstream.on("error", () => socket.destroy());
  upstream.end();
}

async function control(call, reply) {
  const chunks = [];
  for await (const chunk of call) chunks.push(chunk);
  const asked = chunks.length ? JSON.parse(Buffer.concat(chunks)) : {};
  const calls = {
    "POST /proxy": async () => ({ url: await proxy(asked.to) }),
    "POST /test": () => ({ path: (current = begin(asked.name)).path }),
    "GET /calls": () => current.calls,
    "GET /violations": () => current.calls.flatMap(violations),
    "POST /break": () => current.breaks.push({ times: 1, ...asked }),
  };
  const answer = await calls[`${call.method} ${call.url}`]();
  reply.writeHead(200, { "content-type": "application/json" }).end(JSON.stringify(answer));
}

mkdirSync(directory, { recursive: true });
console.log(await listen(createServer(control)), await proxy(firstServer));
