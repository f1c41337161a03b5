// The gallery: search, favourites, and a selection that is deleted on the server, with undo.

import assert from "node:assert/strict";
import { PHONE, generate, images, pageTest, small, startServer, violationsOf } from "./support.mjs";

const KEY = "studio:0123456789abcdef0123456789abcdef";
const server = await startServer();
const keyed = await startServer({ args: ["--api-key", KEY] });
const options = { origins: [server.origin], refusals: true };

/** Generates an image of each prompt; returns the URLs of their files. */
async function prepare(page, prompts, url = server.url) {
  await page.goto(url);
  const files = [];
  for (const prompt of prompts) {
    await small(page, prompt);
    await generate(page);
    await images(page);
    files.push(await page.locator("#images img").evaluate((image) => image.src));
  }
  await page.getByRole("tab", { name: "Gallery" }).click();
  return files;
}

const prompts = (page) => page.locator("#gallery .tile-open span").allTextContents();
const statuses = (files) => Promise.all(files.map(async (file) => (await fetch(file)).status));

/** Waits until the server answers for each file as wanted. */
async function becomes(files, wanted) {
  for (;;) {
    const now = await statuses(files);
    if (now.join() === wanted.join()) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

for (const colorScheme of ["light", "dark"]) {
  pageTest(`images are found by their prompts, and favourites are kept, ${colorScheme}`, { ...options, colorScheme }, async (page) => {
    await prepare(page, ["a red house", "a red boat", "a tall tower"]);
    assert.deepEqual(await prompts(page), ["a tall tower", "a red boat", "a red house"]);
    const search = page.getByRole("searchbox", { name: "Search by prompt" });
    await search.fill("RED ho");
    assert.deepEqual(await prompts(page), ["a red house"]);
    await page.getByText("1 of 3").waitFor();
    await page.locator("#gallery li").hover();
    await page.getByRole("button", { name: "Favourite a red house" }).click();
    assert.deepEqual(await violationsOf(page), []);
    await search.fill("no such image");
    await page.getByText("No image matches.").waitFor();
    await search.fill("");
    await page.getByRole("switch", { name: "Favourites" }).check();
    assert.deepEqual(await prompts(page), ["a red house"]);

    await page.reload();
    await page.getByRole("tab", { name: "Gallery" }).click();
    await page.getByRole("switch", { name: "Favourites" }).check();
    assert.deepEqual(await prompts(page), ["a red house"]);
    assert.deepEqual(await violationsOf(page), []);
    await page.getByRole("button", { name: "a red house", exact: true }).click();
    await images(page);
    const star = page.getByRole("button", { name: "Favourite", exact: true });
    assert.equal(await star.getAttribute("aria-pressed"), "true");
    await star.click();
    await page.locator("#actions [aria-pressed=false]").waitFor();
  });
}

pageTest("selected images are deleted on the server once undo has passed", options, async (page) => {
  const files = await prepare(page, ["first", "second", "third"]);
  await page.getByRole("checkbox", { name: "Select first" }).check();
  await page.getByRole("checkbox", { name: "Select third" }).check();
  await page.getByText("2 selected").waitFor();
  assert.deepEqual(await violationsOf(page), []);
  await page.getByRole("button", { name: "Delete selected" }).click();
  assert.deepEqual(await prompts(page), ["second"]);
  const notice = page.locator("#notices");
  await notice.getByText("2 deleted.").waitFor();
  assert.deepEqual(await violationsOf(page), []);
  assert.deepEqual(await statuses(files), [200, 200, 200], "nothing is erased while it can be undone");
  await notice.getByRole("button", { name: "Undo" }).click();
  assert.deepEqual(await prompts(page), ["third", "second", "first"]);

  await page.getByRole("button", { name: "Select all" }).click();
  await page.getByRole("checkbox", { name: "Select second" }).uncheck();
  await page.getByRole("button", { name: "Delete selected" }).click();
  // Nobody clicks: the notice goes by itself.
  await becomes(files, [404, 200, 404]);
  await page.reload();
  await page.getByRole("tab", { name: "Gallery" }).click();
  assert.deepEqual(await prompts(page), ["second"]);
});

pageTest("what is deleted is also erased when the page is closed at once", options, async (page, context) => {
  const files = await prepare(page, ["first", "second"]);
  await page.getByRole("checkbox", { name: "Select first" }).check();
  await page.getByRole("button", { name: "Delete selected" }).click();
  await page.locator("#notices").getByText("Deleted.").waitFor();
  await page.goto("about:blank");
  await becomes(files, [404, 200]);

  // A browser that ends without a word finishes it at the next visit.
  // Before the page's own listener: Chromium calls those of a window in the order in which they were added.
  await page.addInitScript(() => addEventListener("pagehide", (event) => event.stopImmediatePropagation(), true));
  await page.goto(server.url);
  await page.getByRole("tab", { name: "Gallery" }).click();
  await page.getByRole("checkbox", { name: "Select second" }).check();
  await page.getByRole("button", { name: "Delete selected" }).click();
  await page.locator("#notices").getByText("Deleted.").waitFor();
  await page.close();
  assert.deepEqual(await statuses(files), [404, 200]);
  const next = await context.newPage();
  await next.goto(server.url);
  await becomes(files, [404, 404]);
  await next.getByRole("tab", { name: "Gallery" }).click();
  await next.waitForFunction(() => document.querySelectorAll("#gallery li").length === 0);
});

pageTest("what is deleted while the page still loads can be undone", options, async (page) => {
  const files = await prepare(page, ["a red boat"]);
  let release;
  const released = new Promise((resolve) => (release = resolve));
  await page.route("**/openapi.json", async (route) => (await released, route.continue()));
  await page.reload();
  await page.getByRole("tab", { name: "Gallery" }).click();
  await page.getByRole("checkbox", { name: "Select a red boat" }).check();
  await page.getByRole("button", { name: "Delete selected" }).click();
  await page.locator("#notices").getByText("Deleted.").waitFor();
  const loaded = page.waitForResponse("**/openapi.json");
  release();
  await loaded;
  await page.waitForTimeout(500);
  assert.deepEqual(await statuses(files), [200]);
  await page.locator("#notices").getByRole("button", { name: "Undo" }).click();
  assert.deepEqual(await prompts(page), ["a red boat"]);
});

pageTest("what the server does not delete comes back, with a way to try again", { ...options, origins: [keyed.origin] }, async (page) => {
  await page.addInitScript((key) => sessionStorage.setItem("latentd.key", key), KEY);
  const [file] = await prepare(page, ["a red house"], keyed.url);
  await page.route("**/payloads", (route) => route.abort());
  await page.getByRole("checkbox", { name: "Select a red house" }).check();
  await page.getByRole("button", { name: "Delete selected" }).click();
  await page.locator("#notices").getByRole("button", { name: "Close this notice" }).click();
  await page.getByText("1 could not be deleted: The server does not answer.").waitFor();
  assert.deepEqual(await prompts(page), ["a red house"]);
  await page.unroute("**/payloads");
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator("#notices").getByRole("button", { name: "Close this notice" }).click();
  await becomes([file], [404]);
});

pageTest("the gallery fits a phone", { ...options, ...PHONE }, async (page) => {
  await page.goto(server.url);
  await page.locator("#settings > summary").tap();
  await small(page, `a tower ${"w".repeat(200)}`);
  await generate(page);
  await images(page);
  await page.getByRole("tab", { name: "Gallery" }).tap();
  assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
  assert.deepEqual(await violationsOf(page), []);
});

pageTest("images that the browser keeps itself displace each other alone", options, async (page) => {
  await page.goto(server.url);
  const left = await page.evaluate(async () => {
    const store = await import("/playground/store.js");
    const put = (id, at, url) => store.put({ id, at, output: { images: [{ url }] } });
    await put("of the server", 1, "/files/a.png");
    for (const at of [2, 3, 4]) await put(`image ${at}`, at, `data:${"A".repeat(30 << 20)}`);
    return (await store.all()).map(({ id }) => id);
  });
  assert.deepEqual(left, ["image 4", "image 3", "of the server"]);
});
