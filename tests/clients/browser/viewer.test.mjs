// The full-size view: zoom, pan and keys, looking through all images, and the comparison of two.

import assert from "node:assert/strict";
import { BASE, PHONE, generate, images, pageTest, small, violationsOf } from "./support.mjs";

/** Generates two requests, of one image and of three, and shows the second. */
async function prepare(page) {
  await page.goto(BASE);
  for (const [prompt, count] of [["a tall tower", 1], ["a red house", 3]]) {
    await small(page, prompt);
    await page.locator("#num_images").getByRole("radio", { name: String(count) }).check();
    await generate(page);
    await images(page);
  }
}

const scale = async (page) => Number.parseInt(await page.locator("#viewer-scale").textContent(), 10);
const facts = (page) => page.locator("#viewer-facts").textContent();
const place = (page) => page.locator("#viewer-image").evaluate((image) => image.getBoundingClientRect().toJSON());

pageTest("an image opens at full size, and keys zoom, pan, go through all images and close", {}, async (page) => {
  await prepare(page);
  await page.getByRole("button", { name: "Full size: image 2" }).click();
  const viewer = page.getByRole("dialog", { name: "Full size" });
  await viewer.waitFor();
  assert.match(await facts(page), /^128 × 96 · seed \d+ · image 2/);
  const fit = await scale(page);
  for (const key of ["+", "+", "="]) await page.keyboard.press(key);
  assert.ok((await scale(page)) > 1.9 * fit);
  const before = await place(page);
  await page.keyboard.press("ArrowRight");
  assert.ok((await place(page)).left < before.left, "the arrows move a zoomed image");
  await page.keyboard.press("-");
  await page.keyboard.press("0");
  assert.equal(await scale(page), fit);

  await page.keyboard.press("ArrowRight");
  assert.match(await facts(page), /image 3/);
  await page.keyboard.press("ArrowRight");
  await viewer.getByText("a tall tower", { exact: true }).waitFor();
  await page.keyboard.press("ArrowLeft");
  assert.match(await facts(page), /image 3/);
  await page.keyboard.press("Escape");
  await viewer.waitFor({ state: "hidden" });
  assert.equal(await page.evaluate(() => document.activeElement.getAttribute("aria-label")), "Full size: image 2");
});

pageTest("an image is zoomed by wheel, button and double click, and dragged", {}, async (page) => {
  await prepare(page);
  await page.getByRole("button", { name: "Full size: image 1" }).click();
  await page.locator("#stage").waitFor();
  const fit = await scale(page);
  await page.mouse.move(700, 500);
  await page.mouse.wheel(0, -400);
  await page.waitForFunction((least) => Number.parseInt(document.querySelector("#viewer-scale").textContent, 10) > least, 2 * fit);
  const before = await place(page);
  await page.mouse.down();
  await page.mouse.move(640, 460, { steps: 4 });
  await page.mouse.up();
  const after = await place(page);
  assert.deepEqual([after.left - before.left, after.top - before.top].map(Math.round), [-60, -40]);
  await page.getByRole("button", { name: "Fit" }).click();
  assert.equal(await scale(page), fit);
  await page.getByRole("button", { name: "Zoom in" }).click();
  await page.getByRole("button", { name: "Zoom out" }).click();
  assert.equal(await scale(page), fit);
  await page.mouse.dblclick(640, 460);
  assert.equal(await scale(page), 3 * fit);
});

for (const colorScheme of ["light", "dark"]) {
  pageTest(`two images are compared with a divider, ${colorScheme}`, { colorScheme }, async (page) => {
    await prepare(page);
    await page.getByRole("button", { name: "Full size: image 1" }).click();
    await page.getByRole("button", { name: "Compare", exact: true }).click();
    const other = page.locator("#viewer-other");
    await page.waitForFunction(() => document.querySelector("#viewer-other").naturalWidth > 0);
    assert.notEqual(await other.getAttribute("src"), await page.locator("#viewer-image").getAttribute("src"));
    const shown = () => page.locator("#above").evaluate((above) => getComputedStyle(above).clipPath);
    assert.equal(await shown(), "inset(0px 0px 0px 50%)");
    await page.getByLabel("Divider").focus();
    await page.keyboard.press("ArrowLeft");
    assert.equal(await shown(), "inset(0px 0px 0px 49%)");
    const { x, width, y, height } = await page.locator("#pane").boundingBox();
    await page.mouse.move(x + 0.49 * width, y + height / 2);
    await page.mouse.down();
    await page.mouse.move(x + 0.2 * width, y + height / 2, { steps: 3 });
    await page.mouse.up();
    assert.equal(await page.getByLabel("Divider").inputValue(), "20");
    await page.getByRole("button", { name: /^Compare with a tall tower/ }).click();
    await page.getByText(/^Right of the divider: a tall tower/).waitFor();
    assert.deepEqual(await violationsOf(page), []);
    await page.getByRole("button", { name: "Compare", exact: true }).click();
    assert.ok(!(await other.isVisible()));
    assert.deepEqual(await violationsOf(page), []);

    await page.getByRole("button", { name: "Compare", exact: true }).click();
    await page.getByRole("button", { name: "Close" }).click();
    await page.getByRole("button", { name: "Full size: image 1" }).click();
    await page.locator("#viewer-next").waitFor();
  });
}

pageTest("the full-size view fits a phone", PHONE, async (page) => {
  await page.goto(BASE);
  await page.locator("#settings > summary").tap();
  await small(page);
  await generate(page);
  await images(page);
  await page.getByRole("button", { name: "Full size", exact: true }).tap();
  const { left, right } = await place(page);
  assert.ok(left >= 0 && right <= 390);
  assert.deepEqual(await violationsOf(page), []);
  await page.getByRole("button", { name: "Close" }).tap();
});
