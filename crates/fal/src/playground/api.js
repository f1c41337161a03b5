// The calls of the page: those that any client of fal makes, to the server that the page came from.

/** The endpoint that is used where a server does not list its endpoints; a request is found below it, whichever it was sent to. */
export const ENDPOINT = "fal-ai/stable-diffusion-v35-large";

/** Where the server is, with a slash at its end. */
export const BASE = new URL(".", document.baseURI).href;

const KEY = "latentd.key";
/** The server sends something every 15 seconds; after this long in silence the connection counts as lost. */
const SILENCE_MS = 40_000;

/** The server could not be reached, or went away while it spoke. */
export class Unreachable extends Error {}

/** The server's refusal. */
export class Refused extends Error {
  constructor(status, body) {
    super(typeof body?.detail === "string" ? body.detail : `The server answered ${status}.`);
    this.status = status;
    this.type = body?.error_type;
    /** What is wrong with which field. */
    this.problems = status === 422 && Array.isArray(body?.detail) ? body.detail : [];
  }
}

/** A storage of the browser, or null where it stores nothing for pages: then reading its name already throws. */
function storage(name) {
  try {
    return globalThis[name];
  } catch {
    return null;
  }
}

const [tab, browser] = [storage("sessionStorage"), storage("localStorage")];
/** The key, where the browser stores nothing: until the page is left. */
let unstored = null;

/** The key, kept for this tab or for this browser. */
export const key = {
  get: () => unstored ?? tab?.getItem(KEY) ?? browser?.getItem(KEY) ?? "",
  isKept: () => (browser?.getItem(KEY) ?? null) !== null,
  set(value, kept) {
    this.forget();
    const place = kept ? browser : tab;
    if (place) place.setItem(KEY, value);
    else unstored = value;
  },
  forget() {
    unstored = null;
    tab?.removeItem(KEY);
    browser?.removeItem(KEY);
  },
};

let reportUnreachable = () => {};

/** `report` is called when a call gets no answer. */
export function whenUnreachable(report) {
  reportUnreachable = report;
}

async function call(method, path, { body, blob, signal, keepalive } = {}) {
  const headers = {};
  if (key.get()) headers.Authorization = `Key ${key.get()}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (blob?.type) headers["Content-Type"] = blob.type;
  let response;
  try {
    response = await fetch(BASE + path, { method, headers, signal, keepalive, body: blob ?? (body && JSON.stringify(body)) });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw unreachable();
  }
  if (response.ok) return response;
  throw new Refused(response.status, await response.json().catch(() => null));
}

function unreachable() {
  reportUnreachable();
  return new Unreachable("The server does not answer.");
}

const json = async (response) => (await response).json();
const request = (id) => `queue/${ENDPOINT}/requests/${encodeURIComponent(id)}`;

export const submit = (endpoint, input) => json(call("POST", `queue/${endpoint}`, { body: input }));
export const status = (id) => json(call("GET", `${request(id)}/status?logs=1`));
export const result = (id) => json(call("GET", request(id)));
export const cancel = (id) => json(call("PUT", `${request(id)}/cancel`));
/** Erases input, output and images on the server. */
export const erase = (id, { keepalive } = {}) =>
  json(call("DELETE", `v1/models/requests/${encodeURIComponent(id)}/payloads`, { keepalive }));

/** What administrators see: `requests`, `workers`, `keys` or `storage`. */
export const admin = (name) => json(call("GET", `admin/${name}`));
export const revoke = (id) => json(call("DELETE", `admin/keys/${encodeURIComponent(id)}`));
export const drain = () => json(call("POST", "admin/drain", { body: {} }));

/** The server's OpenAPI document; nothing where it does not answer. */
export const description = () => json(call("GET", "openapi.json")).catch(() => null);

/** Puts a file into the server's storage, as fal's clients do; returns its URL. */
export async function upload(blob) {
  const description = { content_type: blob.type || "application/octet-stream", file_name: blob.name ?? "image" };
  const initiated = call("POST", "storage/upload/initiate?storage_type=fal-cdn-v3", { body: description });
  const { upload_url: to, file_url: url } = await json(initiated);
  // Below this page's own address, whatever the server is called elsewhere.
  await call("PUT", to.slice(to.indexOf("/storage/upload/") + 1), { blob });
  return url;
}

/** The bytes of a data URI in base64. */
export function blobOf(uri) {
  const [, type, data] = /^data:([^;,]*);base64,(.*)$/s.exec(uri);
  return new Blob([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], { type });
}

/** A server that does not say how it is for so long counts as gone. */
const HEALTH_MS = 10_000;

/** The readiness of the server. */
const readiness = async () =>
  (await fetch(`${BASE}health/ready`, { cache: "no-store", signal: AbortSignal.timeout(HEALTH_MS) })).json();

/** The server's word on itself: `ready`, `loading`, `no worker`, `every device is set aside`, `stopping`, or `gone`. */
export async function health() {
  try {
    return (await readiness()).status;
  } catch {
    return "gone";
  }
}

/** The models that are served, with their titles and endpoints; none where the server does not answer. */
export async function served() {
  try {
    return (await readiness()).models ?? [];
  } catch {
    return [];
  }
}

/** Each change of a request, with the log lines that are new, until it is over or the line breaks. */
export async function* statusStream(id, signal) {
  const silence = new AbortController();
  let timer;
  const heard = () => {
    clearTimeout(timer);
    timer = setTimeout(() => silence.abort(), SILENCE_MS);
  };
  try {
    heard();
    const either = AbortSignal.any([signal, silence.signal]);
    const response = await call("GET", `${request(id)}/status/stream?logs=1&preview=1`, { signal: either });
    yield* events(response.body, heard);
  } catch (error) {
    if (signal.aborted || error instanceof Refused || error instanceof Unreachable) throw error;
    throw unreachable();
  } finally {
    clearTimeout(timer);
  }
}

/** The JSON values of an event stream. */
async function* events(body, heard) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    const blocks = (rest + value).split(/\r?\n\r?\n/);
    rest = blocks.pop();
    for (const block of blocks) {
      const lines = block.split(/\r?\n/).filter((line) => line.startsWith("data:"));
      if (lines.length > 0) yield JSON.parse(lines.map((line) => line.slice(5)).join("\n"));
    }
  }
}

/** Where this page finds an image of an output: below its own address, whatever the server is called elsewhere. */
export function imageUrl(url) {
  const name = /\/files\/([^/?#]+)$/.exec(url)?.[1];
  return name ? `${BASE}files/${name}` : url;
}

/** Whether the server answers that it has no such image. No answer means no. */
export async function isGone(url) {
  if (url.startsWith("data:")) return false;
  const answer = await fetch(imageUrl(url), { method: "HEAD", cache: "no-store" }).catch(() => null);
  return answer?.status === 404;
}
