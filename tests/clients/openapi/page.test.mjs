// The /docs page in Chromium: it shows every operation, can execute one, and sends no request to another host.

import assert from "node:assert/strict";
import { join } from "node:path";
import { tmpdir } from "node:os";
import { after, test } from "node:test";
import { chromium } from "playwright-core";

const BASE = process.env.LATENTD_URL ?? "http://127.0.0.1:8080";

/** Long, since the machine may be busy: only a test that fails reaches its limit. */
const LIMIT = { timeout: 180_000 };

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
  ],
});
after(() => browser.close());

/** A page and its problems: errors, and requests to other hosts. */
async function open() {
  const page = await browser.newPage({ viewport: { width: 1280, height: 1000 } });
  page.setDefaultTimeout(60_000);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) problems.push(message.text());
  });
  page.on("request", (request) => {
    const url = new URL(request.url());
    if (/^https?:$/.test(url.protocol) && url.origin !== BASE) problems.push(`request to ${url}`);
  });
  await page.goto(`${BASE}/docs`);
  await page.locator(".opblock").first().waitFor();
  return { page, problems };
}

test("the page shows every operation and calls no other host", LIMIT, async () => {
  const { page, problems } = await open();
  const { paths } = await (await fetch(`${BASE}/openapi.json`)).json();
  const calls = Object.values(paths).flatMap((path) => Object.keys(path));
  assert.equal(await page.locator(".opblock").count(), calls.length + 1, "the operations and the webhook");
  await page.screenshot({ path: process.env.LATENTD_PAGE ?? join(tmpdir(), "latentd-docs.png") });
  assert.deepEqual(problems, []);
  await page.close();
});

test("an operation executed on the page is answered by the server", LIMIT, async () => {
  const { page, problems } = await open();
  const run = page.locator("#operations-run-run");
  await run.locator(".opblock-summary").click();
  const input = { prompt: "a lighthouse", image_size: { width: 64, height: 64 }, num_inference_steps: 1, seed: 7 };
  await run.locator("textarea.body-param__text").fill(JSON.stringify(input));
  await run.getByRole("button", { name: "Execute" }).click();
  const answer = run.locator(".live-responses-table tr.response .response-col_status");
  await answer.filter({ hasText: "200" }).waitFor();
  const shown = await run.locator(".live-responses-table .highlight-code").first().innerText();
  assert.match(shown, /"prompt": "a lighthouse"/);
  assert.match(shown, /"seed": 7/);
  assert.deepEqual(problems, []);
  await page.close();
});
