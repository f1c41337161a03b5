// Helpers of the browser tests: Chromium, a test with a page that must report no problem, and servers for one file.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import http from "node:http";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { createInterface } from "node:readline";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import axe from "axe-core";
import { build } from "esbuild";
import { chromium } from "playwright-core";

/** Base URL of the server under test, without a trailing slash. */
export const BASE = process.env.LATENTD_URL ?? "http://127.0.0.1:8080";

export const ENDPOINT = "fal-ai/stable-diffusion-v35-large";

/** Long, since the machine may be busy: only a test that fails reaches its limit. */
const LIMIT = { timeout: 300_000 };
const WAIT_MS = 120_000;

/** Where a failed test writes its screenshot. */
const SHOTS = process.env.LATENTD_SHOTS ?? mkdtempSync(join(tmpdir(), "latentd-shots-"));

const DESKTOP = { viewport: { width: 1280, height: 900 } };
export const PHONE = { viewport: { width: 390, height: 844 }, hasTouch: true, isMobile: true };

// Playwright gives each browser an empty profile of its own.
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // Host names for pages of other sites.
    "--host-resolver-rules=MAP *.example 127.0.0.1",
  ],
});
after(() => browser.close());

/**
 * A test with a page. It fails on an error in the console, on an exception, and on a request to any origin but
 * `origins`. `refusals` allows error responses, which Chromium writes to the console too; `blocked` allows responses that
 * CORS hides from the page.
 */
export function pageTest(name, { refusals = false, blocked = false, origins = [new URL(BASE).origin], ...options }, body) {
  test(name, LIMIT, async () => {
    const context = await newProfile(options);
    const page = await context.newPage();
    const problems = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("console", (message) => {
      // The page asks whether the server is ready, and on a machine that is busy enough it is not for a moment.
      const isExpected = refusals || message.location().url.endsWith("/health/ready");
      const isRefusal =
        (isExpected && message.text().startsWith("Failed to load resource")) ||
        (blocked && /blocked by CORS policy|^WebSocket connection to .* failed/.test(message.text()));
      if (["error", "warning"].includes(message.type()) && !isRefusal) problems.push(message.text());
    });
    page.on("request", (request) => {
      const url = new URL(request.url());
      if (/^https?:$/.test(url.protocol) && !origins.includes(url.origin)) problems.push(`request to ${url}`);
    });
    try {
      await body(page, context);
      assert.deepEqual(problems, []);
    } catch (error) {
      const path = join(SHOTS, `${name.replace(/\W+/g, "-")}.png`);
      await page.screenshot({ path }).catch(() => {});
      console.error(`== screenshot of the page: ${path}`, problems);
      throw error;
    } finally {
      await context.close();
    }
  });
}

/** A browser profile of its own: its pages share no storage with those of another profile. */
export async function newProfile(options = {}) {
  const context = await browser.newContext({ ...DESKTOP, ...options });
  context.setDefaultTimeout(WAIT_MS);
  return context;
}

/** The violations that axe finds in the page. */
export async function violationsOf(page) {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate(() => globalThis.axe.run({ runOnly: ["wcag2a", "wcag2aa", "wcag21aa", "wcag22aa"] }));
  return violations.flatMap(({ id, nodes }) => nodes.map(({ html, failureSummary }) => `${id}: ${html} ${failureSummary}`));
}

/** A page that has @fal-ai/client as `client`. */
export async function clientPage() {
  const contents = `import * as client from "@fal-ai/client"; globalThis.client = client;`;
  const stdin = { contents, resolveDir: fileURLToPath(new URL(".", import.meta.url)) };
  const { outputFiles } = await build({ stdin, bundle: true, format: "iife", platform: "browser", write: false });
  const script = outputFiles[0].text.replaceAll("</script", "<\\/script");
  return `<!doctype html><link rel="icon" href="data:,"><body><script>${script}</script>`;
}

/** Serves a page on a port of this machine until the test file ends. */
export async function servePage(page) {
  const server = http.createServer((_, response) => response.setHeader("content-type", "text/html; charset=utf-8").end(page));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  after(() => (server.closeAllConnections(), server.close()));
  return server.address();
}

/** Fills the form for an image that takes about a second. */
export async function small(page, prompt = "a red house on the left of a lake") {
  await page.getByLabel("Prompt", { exact: true }).fill(prompt);
  await size(page, 128, 96);
  await page.getByRole("textbox", { name: "Steps" }).fill("4");
}

/** Fills the form for images that take long enough to observe and to interrupt. */
export async function long(page, prompt = "three red boats on the sea at noon", count = 2) {
  await page.getByLabel("Prompt", { exact: true }).fill(prompt);
  await size(page, 1024, 1024);
  await page.getByRole("textbox", { name: "Steps" }).fill("50");
  await page.locator("#num_images").getByRole("radio", { name: String(count) }).check();
}

export async function size(page, width, height) {
  await page.getByRole("radio", { name: "Custom" }).check();
  await page.getByLabel("Width").fill(String(width));
  await page.getByLabel("Height").fill(String(height));
}

/** Clicks Generate, and returns the id of the request once the page has one. */
export async function generate(page) {
  const before = idOf(page);
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.waitForFunction((old) => location.hash.startsWith("#request=") && location.hash !== old, `#request=${before}`);
  return idOf(page);
}

/** Gives the page a file by `drop` on a zone or by `paste`; `meanwhile` is called while the file is over the page. */
export async function giveFile(page, path, kind, zone, meanwhile = async () => {}) {
  const file = { name: basename(path), type: path.endsWith(".png") ? "image/png" : "image/jpeg", data: readFileSync(path, "base64") };
  const dataTransfer = await page.evaluateHandle(({ name, type, data }) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0))], name, { type }));
    return transfer;
  }, file);
  if (kind === "paste") {
    const paste = (clipboardData) => document.activeElement.dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true }));
    return page.evaluate(paste, dataTransfer);
  }
  await page.dispatchEvent("body", "dragenter", { dataTransfer });
  await page.locator(zone).waitFor();
  await meanwhile();
  await page.locator(zone).dispatchEvent("dragover", { dataTransfer });
  await page.locator(zone).dispatchEvent("drop", { dataTransfer });
}

/** Records the inputs that the page sends, with their endpoints. */
export function submissions(page) {
  const sent = [];
  page.on("request", (request) => {
    const [, endpoint] = /\/queue\/(.*)$/.exec(request.url()) ?? [];
    if (request.method() === "POST" && endpoint) sent.push({ endpoint, input: request.postDataJSON() });
  });
  return sent;
}

export function idOf(page) {
  return new URL(page.url()).hash.replace("#request=", "");
}

export async function phase(page, ...wanted) {
  const frame = wanted.map((word) => `#frame[data-phase="${word}"]`).join(", ");
  await page.locator(frame).waitFor();
}

/** Waits until the images are loaded; returns their sizes in pixels. */
export async function images(page) {
  await phase(page, "done");
  const found = page.locator("#images img");
  await page.waitForFunction(() =>
    [...document.querySelectorAll("#images img")].every((image) => image.complete && image.naturalWidth > 0),
  );
  return found.evaluateAll((all) => all.map((image) => [image.naturalWidth, image.naturalHeight]));
}

/** The files of the images that are shown. */
export async function shownFiles(page) {
  const urls = await page.locator("#images img").evaluateAll((all) => all.map((image) => image.src));
  return Promise.all(urls.map(async (url) => Buffer.from(await (await fetch(url)).arrayBuffer())));
}

const here = fileURLToPath(new URL(".", import.meta.url));
/** How the programs of the Code tab are run. */
const RUNS = {
  JavaScript: { file: "program.mjs", command: [process.execPath] },
  Python: { file: "program.py", command: [join(here, "../python/.venv/bin/python")] },
  curl: { file: "program.sh", command: ["sh"] },
};

/** Runs a program of the Code tab as somebody would who pasted it into a file; returns what it printed. */
export async function runProgram(language, program) {
  const folder = mkdtempSync(join(tmpdir(), "latentd-code-"));
  try {
    symlinkSync(join(here, "node_modules"), join(folder, "node_modules"));
    const { file, command } = RUNS[language];
    const [runner, ...args] = [...command, join(folder, file)];
    writeFileSync(join(folder, file), program);
    const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !/^(LATENTD_|FAL_)/.test(name)));
    return (await promisify(execFile)(runner, args, { env, cwd: folder })).stdout;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** Starts a server for one test file, stopped at the end of the file; with `data` and `port` it replaces an earlier one. */
export async function startServer({ data = mkdtempSync(join(tmpdir(), "latentd-browser-")), port = 0, args = [] } = {}) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([name]) => !name.startsWith("LATENTD_")));
  const all = ["serve", "--listen", `127.0.0.1:${port}`, "--log", "warn", "--data-dir", data, ...args];
  const child = spawn(process.env.LATENTD_BIN, all, { env, stdio: ["ignore", "pipe", "ignore"] });
  const ended = once(child, "exit");
  const kill = () => (child.kill("SIGKILL"), ended);
  after(async () => {
    await kill();
    rmSync(data, { recursive: true, force: true });
  });
  const [line] = await once(createInterface({ input: child.stdout }), "line");
  const url = line.match(/http:\S+/)[0];
  while (!(await fetch(`${url}/health/ready`)).ok) await new Promise((resolve) => setTimeout(resolve, 50));
  return { url, origin: new URL(url).origin, port: Number(new URL(url).port), data, kill, ended };
}
