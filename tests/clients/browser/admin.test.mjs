// The page of administrators: what it shows is what the server does, and what is clicked there happens.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { ENDPOINT, PHONE, pageTest, startServer, violationsOf } from "./support.mjs";

const KEY = "operator:0123456789abcdef0123456789abcdef";
const open = await startServer();
const keyed = await startServer({ args: ["--api-key", KEY] });
const ending = await startServer();

const SMALL = { prompt: "a red house", image_size: { width: 64, height: 64 }, num_inference_steps: 2 };
const LONG = { prompt: "hills", image_size: { width: 1024, height: 1024 }, num_inference_steps: 50, num_images: 4 };

async function call(server, method, path, { key, body, headers = {} } = {}) {
  const all = { ...headers, "content-type": "application/json", ...(key ? { authorization: `Key ${key}` } : {}) };
  return fetch(new URL(path, server.url), { method, headers: all, body: body && JSON.stringify(body) });
}

/** Submits a request; its id. */
async function submit(server, body, options = {}) {
  return (await (await call(server, "POST", `/queue/${ENDPOINT}`, { body, ...options })).json()).request_id;
}

const row = (page, table, text) => page.locator(`#${table} tbody tr`).filter({ hasText: text });
const shortOf = (id) => `…${id.slice(-8)}`;
const answer = (page, name) => page.getByRole("dialog").getByRole("button", { name, exact: true }).click();
const wide = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

const PLACES = [
  ["a wide window, light", { viewport: { width: 1920, height: 1080 }, colorScheme: "light" }],
  ["a desktop, dark", { colorScheme: "dark" }],
  ["a phone", PHONE],
];

for (const [place, options] of PLACES) {
  pageTest(`the queue is shown, and a request is cancelled, on ${place}`, { ...options, origins: [open.origin] }, async (page) => {
    await page.goto(new URL("admin", open.url).href);
    await row(page, "workers", "cpu").getByText("Ready").waitFor();
    await row(page, "devices", "cpu").getByText("In use").waitFor();
    await page.getByText("Nothing waits, and nothing runs.").waitFor();
    assert.deepEqual(await violationsOf(page), []);

    const running = await submit(open, LONG);
    const waiting = await submit(open, LONG, { headers: { "x-fal-queue-priority": "low" } });
    await page.getByText("1 waiting, 1 running").waitFor();
    await row(page, "queue", shortOf(running)).getByText(/^Running for \d+ s$/).waitFor();
    await row(page, "queue", shortOf(waiting)).getByText("Waiting, low priority").waitFor();
    await row(page, "queue", shortOf(running)).getByText("cpu").waitFor();
    await row(page, "workers", "cpu").locator("[data-label=Runs]").filter({ hasText: /^1$/ }).waitFor();
    assert.deepEqual(await violationsOf(page), []);
    assert.equal(await wide(page), 0);

    // A row keeps the focus while its numbers change.
    const cancel = page.getByRole("button", { name: `Cancel request ${shortOf(waiting)}` });
    await cancel.focus();
    const age = row(page, "queue", shortOf(waiting)).locator("[data-label=Age]");
    const before = await age.textContent();
    await page.waitForFunction(([id, text]) => document.querySelector(`tr[data-id="${id}"] [data-label=Age]`).textContent !== text, [waiting, before]);
    assert.equal(await page.evaluate(() => document.activeElement.textContent), "Cancel");

    await cancel.click();
    await page.getByRole("dialog", { name: `Cancel request ${shortOf(waiting)}?` }).waitFor();
    assert.deepEqual(await violationsOf(page), []);
    await answer(page, "Leave it");
    assert.equal(await row(page, "queue", shortOf(waiting)).count(), 1);
    for (const id of [waiting, running]) {
      await page.getByRole("button", { name: `Cancel request ${shortOf(id)}` }).click();
      await answer(page, "Cancel it");
      await page.getByText(`Request ${shortOf(id)} is cancelled.`).waitFor();
      await row(page, "queue", shortOf(id)).waitFor({ state: "detached" });
      assert.equal((await call(open, "GET", `/requests/${id}`)).status, 499);
    }
    await page.getByText("Nothing waits, and nothing runs.").waitFor();
  });
}

pageTest("failures and storage are shown, and a request opens in the playground", { origins: [open.origin], refusals: true }, async (page) => {
  const bad = { ...SMALL, image_url: "data:image/png;base64,AAAA" };
  const answered = await call(open, "POST", `/queue/${ENDPOINT}/image-to-image`, { body: bad });
  const { request_id: id } = await answered.json();
  const done = await submit(open, SMALL);
  while ((await call(open, "GET", `/requests/${done}`)).status !== 200) await new Promise((resolve) => setTimeout(resolve, 100));
  await page.goto(new URL("admin", open.url).href);
  await row(page, "failures", shortOf(id)).getByText("picture").waitFor();
  await page.locator("#storage").getByText(/^\d+(\.\d)? (bytes|kB|MB)$/).first().waitFor();
  await row(page, "disks", open.data).getByText(/GB|TB|MB/).first().waitFor();
  const { stored_bytes: stored } = await (await call(open, "GET", "/admin/storage")).json();
  assert.ok(stored > 0);
  assert.deepEqual(await violationsOf(page), []);
  await row(page, "failures", shortOf(id)).getByRole("link").click();
  await page.locator("#words").getByText("These settings cannot be used").waitFor();
});

/** Makes a key as an operator does. */
async function createKey(name, scope) {
  const env = Object.fromEntries(Object.entries(process.env).filter(([variable]) => !variable.startsWith("LATENTD_")));
  const args = ["keys", "create", "--name", name, "--scope", scope, "--data-dir", keyed.data];
  const { stdout } = await promisify(execFile)(process.env.LATENTD_BIN, args, { env });
  return stdout.trim();
}

pageTest("only a key of an administrator opens it, and a key is revoked there", { origins: [keyed.origin], refusals: true }, async (page) => {
  const [user, boss] = [await createKey("Studio", "api"), await createKey("Boss", "admin")];
  const status = async (key) => (await call(keyed, "GET", "/v1/models", { key })).status;
  while ((await status(boss)) !== 200) await new Promise((resolve) => setTimeout(resolve, 100));
  await page.goto(new URL("admin", keyed.url).href);
  const dialog = page.getByRole("dialog", { name: "This server needs a key" });
  await dialog.waitFor();
  assert.ok(!(await page.locator("#content").isVisible()));
  // It does not ask again and again.
  await dialog.getByRole("button", { name: "Cancel" }).click();
  await page.getByText("This page needs the key of an administrator.").waitFor();
  await page.waitForTimeout(2_500);
  assert.ok(!(await dialog.isVisible()));
  await page.getByRole("button", { name: "Use another key" }).click();
  await dialog.getByLabel("Key", { exact: true }).fill(user);
  await dialog.getByRole("button", { name: "Use this key" }).click();
  await page.getByText("This needs the key of an administrator").waitFor();
  assert.deepEqual(await violationsOf(page), []);
  await page.getByRole("button", { name: "Use another key" }).click();
  await dialog.getByLabel("Key", { exact: true }).fill(boss);
  await dialog.getByRole("button", { name: "Use this key" }).click();
  await row(page, "keys", "Boss (this one)").getByText("admin").waitFor();
  const studio = row(page, "keys", "Studio");
  await studio.getByText("Live").waitFor();
  await submit(keyed, LONG, { key: user });
  await row(page, "queue", "Studio").getByText(/^Running/).waitFor();
  assert.deepEqual(await violationsOf(page), []);
  assert.equal(await status(user), 200);

  await page.getByRole("button", { name: "Revoke the key Studio" }).click();
  await answer(page, "Revoke it");
  await page.getByText("The key Studio is revoked.").waitFor();
  await studio.getByText(/^Revoked/).waitFor();
  assert.equal(await studio.getByRole("button").count(), 0);
  assert.equal(await status(user), 401);
  assert.equal(await status(boss), 200);

  // Whose key is revoked meanwhile is asked for another one.
  await call(keyed, "DELETE", `/admin/keys/${boss.split(":")[0]}`, { key: KEY });
  await page.getByRole("dialog", { name: "The server does not know this key" }).waitFor();
});

pageTest("a server that is drained finishes what runs, and ends", { origins: [ending.origin], refusals: true }, async (page) => {
  const id = await submit(ending, { ...SMALL, num_inference_steps: 20 });
  await page.goto(new URL("admin", ending.url).href);
  await row(page, "workers", "cpu").waitFor();
  await page.getByRole("button", { name: "Drain the server" }).click();
  await page.getByRole("dialog", { name: "Drain this server?" }).waitFor();
  assert.deepEqual(await violationsOf(page), []);
  await answer(page, "Drain it");
  const [code] = await ending.ended;
  assert.equal(code, 0);
  await page.locator("#server").getByText("Server not reachable").waitFor();
  const again = await startServer({ data: ending.data, port: ending.port });
  await page.locator("#server").getByText("Ready").waitFor();
  await row(page, "workers", "cpu").getByText("Ready").waitFor();
  while ((await call(again, "GET", `/requests/${id}`)).status === 400) await new Promise((resolve) => setTimeout(resolve, 100));
  assert.equal((await call(again, "GET", `/requests/${id}`)).status, 200);
});
