// Preloaded by ../run: appends one line per HTTP exchange to $LATENTD_WIRE, so that a
// failed test can be read on the wire. Installed before @fal-ai/client looks up `fetch`.

import { appendFileSync } from "node:fs";

const path = process.env.LATENTD_WIRE;
const plainFetch = globalThis.fetch;

if (path) {
  globalThis.fetch = async (url, init = {}) => {
    const method = init.method ?? "GET";
    const target = new Headers(init.headers).get("x-fal-target-url");
    const started = new Date().toISOString();
    const note = (outcome) => appendFileSync(path, JSON.stringify({ started, method, url, target, ...outcome }) + "\n");
    try {
      const response = await plainFetch(url, init);
      const heard = { sent: init.body, status: response.status, headers: Object.fromEntries(response.headers) };
      // An answer may begin long before it ends: the program has it at once, the note follows.
      answer(response).then((more) => note({ ...heard, ...more }), (error) => note({ ...heard, failed: String(error) }));
      return response;
    } catch (error) {
      note({ sent: init.body, failed: String(error) });
      throw error;
    }
  };
}

/** The body if it is JSON; pictures and event streams are left to their reader. */
async function answer(response) {
  const isJson = (response.headers.get("content-type") ?? "").includes("application/json");
  return isJson ? { answer: (await response.clone().text()).slice(0, 4_000) } : {};
}
