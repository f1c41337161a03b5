// A test whose calls are written down by ../wire.mjs: where its log lies is said when it fails, and `wire` reads it.

import assert from "node:assert/strict";
import { test as nodeTest } from "node:test";

const WIRE = process.env.LATENTD_WIRE;

async function ask(method, path, body) {
  const response = await fetch(WIRE + path, { method, body: body && JSON.stringify(body) });
  return response.json();
}

/** `test` of node:test for everything that reaches a server. Whatever it looks at, the answers must hold the rules. */
export function test(name, options, body) {
  nodeTest(name, options, async (t) => {
    const { path } = await ask("POST", "/test", { name: `js-${name}` });
    let passed = false;
    t.after(() => passed || console.error(`✖ ${name}\n  what it sent and got: ${path}`));
    await body(t);
    assert.deepEqual(await ask("GET", "/broken"), []);
    passed = true;
  });
}

export const wire = {
  /** A new address in front of a server that a test started itself. */
  front: async (to) => (await ask("POST", "/front", { to })).url,

  /** Breaks the next calls, see `Break` in ../wire.mjs. */
  breakCalls: (fault) => ask("POST", "/break", fault),

  /** What this test's clients sent so far, in order, and what they were answered; a JSON body is parsed. */
  async calls(method, path = "") {
    const calls = (await ask("GET", "/calls")).map((call) => ({ ...call, body: parsed(call.sent) }));
    return calls.filter((call) => (!method || call.method === method) && new RegExp(path).test(call.url));
  },

  /** The only such call. */
  async call(method, path) {
    const calls = await this.calls(method, path);
    if (calls.length !== 1) throw new Error(`${calls.length} calls are ${method} ${path}: ${calls.map((c) => c.url)}`);
    return calls[0];
  },
};

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return text;
  }
}
