// The words for states and errors of requests.

/** `empty`, `sending`, `waiting`, `generating`, `done` or `failed`. */
export function phaseOf(entry) {
  if (!entry) return "empty";
  if (entry.state !== "running") return entry.state;
  if (!entry.live?.status) return "sending";
  return entry.live.status === "IN_QUEUE" ? "waiting" : "generating";
}

/** The server's notes on a request: its warnings, once each. */
export function notesOf(entry) {
  return entry?.notes ?? warnings(entry?.live?.logs);
}

export function warnings(logs = []) {
  return [...new Set(logs.filter(({ level }) => level === "WARN").map(({ message }) => message))];
}

/** The line below the frame, and the part that is done where it is known. */
export function progressOf(entry, phase) {
  if (phase === "empty" || phase === "failed") return { text: "" };
  if (phase === "done") return { text: finished(entry.output) };
  if (entry.live?.lost) return { text: "The server does not answer. Trying again…" };
  if (phase === "sending") return { text: "Sending…" };
  if (entry.live.cancelling) return { text: "Cancelling…" };
  if (phase === "waiting") return { text: waiting(entry.live.position ?? 0) };
  return generating(entry.live.logs);
}

/** The prompt of a request, for labels. */
export function promptOf(entry) {
  return entry.output?.prompt ?? entry.input?.prompt ?? "A request";
}

/** The input that makes the same images again: with the seed that was used, where the server chose it. */
export function reproduction({ input, output }) {
  return output ? { ...input, seed: output.seed } : input;
}

/** Size, seed, place in its batch and model of one image. */
export function factsOf(entry, index) {
  const { images, seed } = entry.output;
  const { width, height } = images[index];
  const place = (entry.input?.image_offset ?? 0) + index;
  const batch = images.length > 1 || place > 0 ? `image ${place + 1}` : "";
  return [`${width} × ${height}`, `seed ${seed}`, batch, entry.model].filter(Boolean).join(" · ");
}

/** How far a request is, in a word or two. */
export function shortState(entry) {
  const phase = phaseOf(entry);
  if (phase === "waiting") return entry.live.position > 0 ? `${entry.live.position} ahead` : "Next";
  if (phase !== "generating") return phase === "sending" ? "Waiting" : "";
  const { part = 0 } = progressOf(entry, phase);
  return part > 0 ? `${Math.round(part * 100)} %` : "Started";
}

function waiting(ahead) {
  return ahead === 0 ? "In the queue, next in line" : `In the queue, ${ahead} ahead`;
}

function generating(logs) {
  const steps = logs.map(step).filter(Boolean);
  const last = steps.at(-1);
  if (!last) return { text: "Reading the prompt…", part: 0 };
  const part = last.at / last.of;
  if (last.at === last.of) return { text: "Finishing…", part };
  const left = remaining(steps.slice(-8), last);
  return { text: `Step ${last.at} of ${last.of}${left}`, part };
}

function step({ message, timestamp }) {
  const [, at, of] = /\bstep (\d+)\/(\d+)/.exec(message) ?? [];
  return of && { at: Number(at), of: Number(of), time: Date.parse(timestamp) };
}

/** The time that the last few steps foretell, once it is worth a word. */
function remaining([first], last) {
  if (first.at >= last.at) return "";
  const seconds = ((last.time - first.time) / (last.at - first.at)) * (last.of - last.at) / 1000;
  if (!(seconds >= 2)) return "";
  return seconds < 90 ? `, about ${Math.round(seconds)} s left` : `, about ${Math.round(seconds / 60)} min left`;
}

function finished({ images, seed, timings }) {
  const [{ width, height }] = images;
  const stages = ["text", "denoise", "decode", "encode"].map((stage) => timings?.[stage] ?? 0);
  const seconds = stages.reduce((sum, time) => sum + time, 0);
  const time = seconds > 0 ? ` · ${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s` : "";
  return `${width} × ${height} · seed ${seed}${time}`;
}

/** Title and text of an error, and whether asking `again` makes sense. */
export function explain({ status, message, type, unreachable, unknown }) {
  if (unreachable) {
    return {
      title: "The server does not answer",
      text: "Is latentd still running? Your settings are kept here; try again when it is back.",
      again: true,
    };
  }
  if (status === 401) return { title: "This server needs a key", text: "Enter one to go on.", again: true };
  if (status === 404 && unknown) {
    const text = "It may have been sent to another server, or the data directory has changed since.";
    return { title: "The server does not know this request", text, again: true };
  }
  if (status === 422) {
    return { title: "These settings cannot be used", text: "What is wrong is marked at its field.", again: false };
  }
  if (status === 499) return { title: "Cancelled", text: "Nothing was kept.", again: true };
  if (status === 504) return { title: "It did not start in time", text: message, again: true };
  const [, full] = /^the queue is (?:full|longer[^:]*): (.*)$/.exec(message) ?? [];
  if (full) return { title: "The queue is full", text: `Try again in a moment: ${full}.`, again: true };
  if (status === 503) return { title: "The server takes no requests now", text: message, again: true };
  if (type === "runner_server_error") return { title: "Generating failed", text: message, again: true };
  return { title: "The server refused the request", text: message, again: true };
}

/** An error in plain data, as it is kept with its request. */
export function plain(error) {
  const { status, message, type } = error;
  return { status, message, type, unreachable: status === undefined };
}
