// Tests whose calls are recorded by ../wire.mjs: a failing test prints the path of its record; `wire` reads it.

import assert from "node:assert/strict";
import { test as nodeTest } from "node:test";

const WIRE = process.env.LATENTD_WIRE;

async function ask(method, path, body) {
  const response = await fetch(WIRE + path, { method, body: body && JSON.stringify(body) });
  return response.json();
}

/** `test` of node:test for tests that call a server. After each one, all its responses must obey ../rules.mjs. */
export function test(name, options, body) {
  nodeTest(name, options, async (t) => {
    const { path } = await ask("POST", "/test", { name: `js-${name}` });
    let passed = false;
    t.after(() => passed || console.error(`✖ ${name}\n  calls: ${path}`));
    await body(t);
    assert.deepEqual(await ask("GET", "/violations"), []);
    passed = true;
  });
}

export const wire = {
  /** The address of a new recording proxy for a server that a test started itself. */
  proxyFor: async (to) => (await ask("POST", "/proxy", { to })).url,

  /** Breaks the next calls, see `Break` in ../wire.mjs. */
  breakCalls: (fault) => ask("POST", "/break", fault),

  /** The requests of this test's clients so far, in order, with their responses; a JSON body is parsed. */
  async calls(method, path = "") {
    const calls = (await ask("GET", "/calls")).map((call) => ({ ...call, body: parsed(call.sent) }));
    return calls.filter((call) => (!method || call.method === method) && new RegExp(path).test(call.url));
  },

  /** The one call that matches; fails unless there is exactly one. */
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
