// Generating an image: progress, previews, reloads, cancels and errors.

import assert from "node:assert/strict";
import { BASE, ENDPOINT, PHONE, generate, idOf, images, long, newProfile, phase, pageTest, size, small } from "./support.mjs";

/** The step that the page shows. */
async function stepShown(page) {
  const words = await page.locator("#progress").textContent();
  return Number(/Step (\d+) of/.exec(words)?.[1] ?? 0);
}

async function stepAfter(page, step) {
  await page.waitForFunction((at) => {
    const shown = /Step (\d+) of/.exec(document.querySelector("#progress").textContent)?.[1];
    return Number(shown) > at;
  }, step);
  return stepShown(page);
}

pageTest("a prompt becomes an image, with progress and without layout shifts", {}, async (page) => {
  await page.addInitScript(() => {
    globalThis.shifts = [];
    const keep = (list) => shifts.push(...list.getEntries().filter((entry) => !entry.hadRecentInput));
    new PerformanceObserver(keep).observe({ type: "layout-shift", buffered: true });
  });
  await page.goto(BASE);
  await phase(page, "empty");
  await long(page, "a red house on the left of a lake at sunset, two boats", 1);
  await page.evaluate(() => (shifts.length = 0));
  const id = await generate(page);
  const first = await stepAfter(page, 0);
  await stepAfter(page, first);
  const value = Number(await page.getByRole("progressbar").getAttribute("aria-valuenow"));
  assert.ok(value > 0 && value <= 100, String(value));
  assert.deepEqual(await images(page), [[1024, 1024]]);
  assert.match(await page.locator("#progress").textContent(), /^1024 × 1024 · seed \d+ · [\d.]+ s$/);
  // The buttons below the frame have changed; nothing else has moved.
  const moved = await page.evaluate(() => shifts.flatMap(({ sources }) => sources.map(({ node }) => node?.id)));
  assert.deepEqual(moved.filter((place) => place !== "actions"), []);

  await page.getByRole("tab", { name: "Log" }).click();
  const lines = await page.locator("#log li").allTextContents();
  assert.equal(lines.filter((line) => line.includes("step 50/50")).length, 1, `${lines}`);
  assert.equal(idOf(page), id);
});

pageTest("previews are shown during generation, and the final image does not flicker", {}, async (page) => {
  // A preview is on the page only until the image is done, which may be before this test looks.
  await page.addInitScript(() => {
    globalThis.previews = [];
    const keep = () => {
      const preview = document.querySelector("#preview:not([hidden])");
      if (preview) previews.push(preview.src);
    };
    new MutationObserver(keep).observe(document, { subtree: true, childList: true, attributes: true });
  });
  await page.goto(BASE);
  await long(page, "glowing mushrooms in a forest at night, a full moon", 2);
  // The checker withholds previews that are not clearly safe.
  await page.getByLabel("Safety checker").uncheck();
  await generate(page);
  await images(page);
  // The number of previews is up to the server, which limits the time that they take.
  const [preview] = await page.evaluate(() => previews);
  assert.ok(preview?.startsWith("data:image/jpeg;base64,"), preview?.slice(0, 40));
  const behind = await page.locator("#images figure").first().evaluate((figure) => figure.style.backgroundImage);
  assert.ok(behind.startsWith('url("data:image/jpeg;base64,'), behind.slice(0, 40));
});

pageTest("words that the model does not know are named beside the image, also after a reload", {}, async (page) => {
  await page.goto(BASE);
  await small(page, "a red house by a lake");
  await generate(page);
  await images(page);
  assert.deepEqual(await page.locator("#notes li").allTextContents(), []);
  await small(page, "a red cat in Paris");
  await generate(page);
  await images(page);
  const [note, ...others] = await page.locator("#notes li").allTextContents();
  assert.match(note, /^ignored: cat, Paris\. The built-in model knows only: /);
  assert.deepEqual(others, []);
  await page.reload();
  await page.locator("#notes li").first().waitFor();
  assert.deepEqual(await page.locator("#notes li").allTextContents(), [note]);
});

pageTest("the image has the seed, size and format of the form", {}, async (page) => {
  await page.goto(BASE);
  await small(page);
  await page.getByRole("button", { name: "Draw a seed" }).click();
  const seed = await page.getByLabel("Seed", { exact: true }).inputValue();
  assert.match(seed, /^\d+$/);
  await page.getByRole("radio", { name: "PNG" }).check();
  await page.keyboard.press("Control+Enter");
  assert.deepEqual(await images(page), [[128, 96]]);
  assert.ok((await page.locator("#progress").textContent()).includes(`seed ${seed}`));
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download image 1" }).click(),
  ]);
  assert.equal(download.suggestedFilename(), `latentd-${seed}.png`);
});

pageTest("several images that the server does not keep", {}, async (page) => {
  await page.goto(BASE);
  await small(page);
  await page.locator("#num_images").getByRole("radio", { name: "3" }).check();
  await page.getByLabel("Keep no file on the server").check();
  await generate(page);
  assert.deepEqual(await images(page), [[128, 96], [128, 96], [128, 96]]);
  const sources = await page.locator("#images img").evaluateAll((all) => all.map((image) => image.src));
  assert.ok(sources.every((source) => source.startsWith("data:image/jpeg;base64,")));
  await page.reload();
  assert.equal((await images(page)).length, 3, "this browser kept them");
});

pageTest("a reload during a run shows the same request until its image is done", {}, async (page) => {
  await page.goto(BASE);
  await long(page);
  const id = await generate(page);
  const before = await stepAfter(page, 0);
  await page.reload();
  await phase(page, "generating");
  assert.equal(idOf(page), id);
  assert.ok((await stepAfter(page, before)) > before);
  assert.equal(await page.getByLabel("Prompt", { exact: true }).inputValue(), "three red boats on the sea at noon");
  assert.deepEqual(await images(page), [[1024, 1024], [1024, 1024]]);
  const requests = await page.locator("#history li").count();
  assert.equal(requests, 1, "no second request was made");
});

pageTest("a run is found again by this browser, and by its URL in another browser", {}, async (page) => {
  await page.goto(BASE);
  await long(page);
  const id = await generate(page);
  await phase(page, "generating");
  await page.goto("about:blank");
  await page.goto(BASE);
  await phase(page, "generating");
  assert.equal(idOf(page), id);

  const other = await newProfile();
  const elsewhere = await other.newPage();
  await elsewhere.goto(`${BASE}/#request=${id}`);
  await images(elsewhere);
  await elsewhere.getByRole("navigation").getByRole("button").click();
  assert.equal(await elsewhere.getByLabel("Prompt", { exact: true }).inputValue(), "three red boats on the sea at noon");
  assert.equal(await elsewhere.getByLabel("Width").inputValue(), "1024");
  await other.close();
  await images(page);
});

pageTest("cancel: while it waits, and while it is generated", {}, async (page, context) => {
  await page.goto(BASE);
  await long(page, "mountains", 4);
  await generate(page);
  await phase(page, "generating");
  const second = await context.newPage();
  await second.goto(BASE);
  await long(second, "hills", 4);
  await second.getByRole("button", { name: /^Generate/ }).click();
  await second.getByText("In the queue, next in line").waitFor();
  await Promise.all([cancelled(second), second.getByRole("button", { name: "Cancel", exact: true }).click()]);
  await Promise.all([cancelled(page), page.getByRole("button", { name: "Cancel", exact: true }).click()]);
});

/** Waits until the page shows that its request was cancelled. */
async function cancelled(page) {
  await phase(page, "failed");
  await page.locator("#words").getByText("Cancelled").waitFor();
}

pageTest("an error of the server is shown at its field", { refusals: true }, async (page) => {
  await page.goto(BASE);
  await small(page);
  const negative = page.getByLabel("Negative prompt");
  await negative.fill("no ".repeat(20_000));
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.locator("#problem-negative_prompt").getByText("Input should have at most 50000 characters").waitFor();
  assert.equal(await negative.getAttribute("aria-invalid"), "true");
  assert.equal(await page.getByLabel("Prompt", { exact: true }).getAttribute("aria-invalid"), null);
  assert.equal(await page.evaluate(() => document.activeElement.id), "negative_prompt");
  await negative.fill("no");
  assert.equal(await page.locator("#problem-negative_prompt").textContent(), "");
  await generate(page);
  await images(page);
});

pageTest("an input that the page can see to be invalid is not sent", {}, async (page) => {
  await page.goto(BASE);
  let sent = 0;
  page.on("request", (request) => (sent += Number(request.method() === "POST")));
  await page.getByRole("textbox", { name: "Steps" }).fill("51");
  await page.getByRole("textbox", { name: "Guidance" }).fill("much");
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.locator("#problem-prompt").getByText("Describe the image.").waitFor();
  assert.equal(await page.locator("#problem-num_inference_steps").textContent(), "A number from 1 to 50.");
  assert.equal(await page.locator("#problem-guidance_scale").textContent(), "A number, please.");
  await size(page, 14143, 1536);
  await page.getByLabel("Height").blur();
  assert.equal(
    await page.locator("#problem-image_size").textContent(),
    "Width: A number from 1 to 14142.",
    "fal's limit, which the built-in model takes: it scales",
  );
  assert.equal(sent, 0);
  const described = await page.getByLabel("Prompt", { exact: true }).getAttribute("aria-describedby");
  assert.equal(described, "problem-prompt");
});

pageTest("on a phone all controls are present and nothing is wider than the screen", PHONE, async (page) => {
  await page.goto(BASE);
  const fits = () => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);
  assert.ok(await fits());
  await page.locator("#settings > summary").tap();
  await small(page, `a tower ${"w".repeat(200)}`);
  assert.ok(await fits());
  await page.getByRole("button", { name: /^Generate/ }).tap();
  await images(page);
  assert.ok(await fits());
  await page.getByRole("tab", { name: "Code" }).tap();
  assert.ok(await fits());
  const frame = await page.evaluate(() => document.querySelector("#history img").getBoundingClientRect().width);
  assert.ok(frame > 40);
});

pageTest("the page uses only its endpoint's routes", {}, async (page) => {
  const paths = new Set();
  page.on("request", (request) => paths.add(new URL(request.url()).pathname.split("/")[1]));
  await page.goto(BASE);
  await small(page);
  await generate(page);
  await images(page);
  assert.deepEqual([...paths].sort(), ["", "files", "health", "openapi.json", "playground", "queue"]);
  assert.equal(ENDPOINT, "fal-ai/stable-diffusion-v35-large");
});
