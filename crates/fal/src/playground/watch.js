// Follows requests until they are over: the shown one by its stream, others by polling.

import { Refused, Unreachable, result, status, statusStream } from "./api.js";
import { warnings } from "./words.js";

const POLL_MS = 2_000;
const RETRY_MS = [500, 1_000, 2_000, 4_000];

const pause = (ms, signal) =>
  new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
  });

/**
 * Reports a request's progress to `on` until it ends or `signal` aborts, across lost connections too:
 * `on.progress({ status, position, logs, preview })`, `on.lost()`, then `on.end(outcome)`, once.
 */
export async function follow(id, signal, on) {
  for (let tries = 0; !signal.aborted; tries += 1) {
    try {
      const logs = [];
      for await (const event of statusStream(id, signal)) {
        tries = 0;
        logs.push(...(event.logs ?? []));
        if (signal.aborted) return;
        on.progress({ status: event.status, position: event.queue_position, logs, preview: event.preview });
        if (event.status === "COMPLETED") {
          const ended = await outcome(id, event);
          if (!signal.aborted) on.end({ ...ended, notes: warnings(logs) });
          return;
        }
      }
    } catch (error) {
      if (signal.aborted) return;
      if (isFinal(error)) return on.end({ error });
      on.lost();
    }
    await pause(RETRY_MS[Math.min(tries, RETRY_MS.length - 1)], signal);
  }
}

/** Waits for the end of a request that nobody looks at; `progress({ status, position, logs })` is called on the way. */
export async function settled(id, signal, progress) {
  while (!signal.aborted) {
    try {
      const last = await status(id);
      if (last.status === "COMPLETED") return { ...(await outcome(id, last)), notes: warnings(last.logs) };
      if (!signal.aborted) progress({ status: last.status, position: last.queue_position, logs: last.logs ?? [] });
    } catch (error) {
      if (isFinal(error)) return { error };
    }
    await pause(POLL_MS, signal);
  }
  return null;
}

/** What became of a request, after its last status: `{ output }` or `{ error }`. */
async function outcome(id, last) {
  // Nothing is left to ask, and asking would be an error in the browser's console.
  if (last.error_type === "client_cancelled") return { error: new Refused(499, { detail: last.error }) };
  try {
    return { output: await result(id) };
  } catch (error) {
    if (error instanceof Unreachable || (!last.error && isBrief(error))) throw error;
    return { error };
  }
}

/** Does the server, or a proxy before it, only not answer for the moment? */
function isBrief(error) {
  return error instanceof Refused && [429, 502, 503, 504].includes(error.status);
}

/** Is there no sense in asking again? */
function isFinal(error) {
  return error instanceof Refused && [401, 403, 404].includes(error.status);
}
