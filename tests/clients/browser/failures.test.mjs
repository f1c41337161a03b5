// Error messages of the page: a key is required, the server is unreachable, the queue is full.

import assert from "node:assert/strict";
import { BASE, long, generate, phase, images, pageTest, small, startServer } from "./support.mjs";

const KEY = "studio:0123456789abcdef0123456789abcdef";
const locked = await startServer({ args: ["--api-key", KEY] });
const crashing = await startServer();
const shortQueue = await startServer({ args: ["--max-queue", "1"] });

pageTest("the page asks for a key when the server requires one, and stores it as chosen", { refusals: true, origins: [locked.origin] }, async (page, context) => {
  await page.goto(locked.url);
  await small(page);
  assert.equal(await page.getByRole("button", { name: "Key", exact: true }).count(), 0);
  await page.getByRole("button", { name: /^Generate/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByRole("heading", { name: "This server needs a key" }).waitFor();
  await dialog.getByLabel("Key", { exact: true }).fill("no:key");
  await dialog.getByRole("button", { name: "Use this key" }).click();
  await dialog.getByRole("heading", { name: "The server does not know this key" }).waitFor();
  await dialog.getByLabel("Key", { exact: true }).fill(KEY);
  await dialog.getByRole("button", { name: "Use this key" }).click();
  await images(page);

  await page.getByRole("tab", { name: "Code" }).click();
  const code = await page.locator("#code").textContent();
  assert.ok(!code.includes(KEY) && code.includes("process.env.FAL_KEY"), code);
  assert.deepEqual(await kept(page), { tab: KEY, browser: null });
  await page.reload();
  await images(page);
  const fresh = await context.newPage();
  await fresh.goto(locked.url);
  assert.deepEqual(await kept(fresh), { tab: null, browser: null });

  await page.getByRole("button", { name: "Key", exact: true }).click();
  await dialog.getByLabel("Key", { exact: true }).fill(KEY);
  await dialog.getByLabel("Keep it in this browser").check();
  await dialog.getByRole("button", { name: "Use this key" }).click();
  assert.deepEqual(await kept(page), { tab: null, browser: KEY });
  await page.getByRole("button", { name: "Key", exact: true }).click();
  await dialog.getByRole("button", { name: "Forget it" }).click();
  assert.deepEqual(await kept(page), { tab: null, browser: null });
});

function kept(page) {
  return page.evaluate(() => ({
    tab: sessionStorage.getItem("latentd.key"),
    browser: localStorage.getItem("latentd.key"),
  }));
}

pageTest("after a crash and a restart the server finishes the request", { refusals: true, origins: [crashing.origin] }, async (page) => {
  await page.goto(crashing.url);
  await long(page);
  await generate(page);
  await phase(page, "generating");
  await crashing.kill();
  await page.getByText("The server does not answer. Trying again…").waitFor();
  await page.locator('#server[data-state="gone"]').waitFor();
  const again = await startServer({ data: crashing.data, port: crashing.port });
  assert.equal((await images(page)).length, 2);

  await again.kill();
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.locator("#words").getByText("The server does not answer").waitFor();
  await page.getByRole("button", { name: "Try again" }).waitFor();
});

pageTest("a full queue is reported", { refusals: true, origins: [shortQueue.origin] }, async (page) => {
  await page.goto(shortQueue.url);
  await long(page, "a tower", 4);
  await generate(page);
  await phase(page, "generating");
  await generate(page);
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.locator("#words .title").getByText("The queue is full").waitFor();
  await page.getByText("Try again in a moment: 1 requests wait.").waitFor();
});

pageTest("an empty field of a number does not keep the image from appearing", {}, async (page) => {
  await page.goto(BASE);
  await small(page);
  await page.getByRole("textbox", { name: "Steps" }).fill("50");
  await generate(page);
  await page.getByLabel("Width").fill("");
  await images(page);
});

pageTest("a result that cannot be read for a moment is asked for again", { refusals: true }, async (page) => {
  let asked = 0;
  await page.route(/\/requests\/[\w-]+$/, (route) => {
    asked += 1;
    return asked === 1 ? route.fulfill({ status: 503, json: { detail: "busy" } }) : route.continue();
  });
  await page.goto(BASE);
  await small(page);
  await generate(page);
  await images(page);
  assert.equal(asked, 2);
});

pageTest("a browser that stores nothing for pages generates, and knows the key until the page is left", { refusals: true, origins: [locked.origin] }, async (page) => {
  await page.addInitScript(() => {
    const get = () => {
      throw new DOMException("pages may store nothing", "SecurityError");
    };
    for (const name of ["localStorage", "sessionStorage"]) Object.defineProperty(window, name, { get });
  });
  // What is filled in before the server has described itself stays.
  let filled;
  const waits = new Promise((resolve) => (filled = resolve));
  await page.route(/\/openapi\.json$/, (route) => waits.then(() => route.continue()));
  await page.goto(locked.url);
  await small(page);
  filled();
  await page.locator('#server[data-state="ready"]').waitFor();
  await page.getByRole("button", { name: /^Generate/ }).click();
  const dialog = page.getByRole("dialog");
  await dialog.getByLabel("Key", { exact: true }).fill(KEY);
  await dialog.getByRole("button", { name: "Use this key" }).click();
  await images(page);
});
