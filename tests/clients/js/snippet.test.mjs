// Runs the published snippet as a program: it prints progress, and the URL that it prints serves a JPEG of the default
// size.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { download } from "./support.mjs";
import { test } from "./wire.mjs";

test("the page's snippet prints progress and the URL of a 1024x768 JPEG", { timeout: 180_000 }, async () => {
  const { code, output } = await runProgram("snippet.mjs");
  assert.equal(code, 0, output);

  const steps = [...output.matchAll(/\bstep (\d+)\/28\b/g)].map((match) => Number(match[1]));
  assert.ok(steps.length > 0, `progress lines in\n${output}`);
  assert.ok(Math.max(...steps) <= 28);

  const url = output.match(/url: '([^']+)'/)?.[1];
  await download({ url, width: 1024, height: 768, content_type: "image/jpeg" });
  assert.match(output, /content_type: 'image\/jpeg'/);
  assert.match(output, /\bseed: \d+/);
  assert.match(output, /has_nsfw_concepts: \[ false \]/);
  assert.match(output, /A dreamlike Japanese garden in perpetual twilight/);
  assert.match(output.trimEnd().split("\n").at(-1), /^[0-9a-f-]{36}$/, "requestId is the last line");
});

/** Runs a program of this folder to its end; returns its exit code and its output. */
function runProgram(name) {
  const path = fileURLToPath(new URL(name, import.meta.url));
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [path], { stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (chunk) => (output += chunk));
    child.stderr.on("data", (chunk) => (output += chunk));
    child.on("error", reject);
    child.on("close", (code) => resolve({ code, output }));
  });
}
