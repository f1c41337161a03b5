// Inpainting: a mask is painted over the initial image by mouse, touch or keys, or is a file, and the endpoint follows.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { BASE, ENDPOINT, PHONE, generate, giveFile, images, pageTest, runProgram, size, small, submissions, violationsOf } from "./support.mjs";

const [WIDTH, HEIGHT] = [256, 192];
const PROMPT = "a red house on the left of a lake at sunset, two boats";
const folder = mkdtempSync(join(tmpdir(), "latentd-mask-"));
after(() => rmSync(folder, { recursive: true }));

const field = (page) => page.locator("#initial");
const editor = (page) => page.getByRole("dialog", { name: "Paint over what to generate anew" });
const tool = (page, name) => editor(page).getByRole("button", { name, exact: true });
const coverage = (page) => page.locator("#mask-coverage").textContent();

/** Generates an image and makes it the initial image. */
async function begin(page, { isPhone = false } = {}) {
  await page.goto(BASE);
  if (isPhone) await page.locator("#settings > summary").tap();
  await small(page, PROMPT);
  await size(page, WIDTH, HEIGHT);
  await page.getByLabel("Seed", { exact: true }).fill("5");
  await page.getByRole("radio", { name: "PNG" }).check();
  await generate(page);
  await images(page);
  await page.getByRole("button", { name: "Use as initial image" }).click();
  await field(page).getByText(`${PROMPT} · ${WIDTH} × ${HEIGHT}`).waitFor();
}

/** A point of the image in the editor, given in parts of its sides, in pixels of the window. */
async function point(page, [x, y]) {
  const box = await page.locator("#mask-canvas").boundingBox();
  return [box.x + x * box.width, box.y + y * box.height];
}

/** Draws a stroke through points. */
async function drag(page, ...points) {
  const [first, ...others] = await Promise.all(points.map((each) => point(page, each)));
  await page.mouse.move(...first);
  await page.mouse.down();
  for (const each of others) await page.mouse.move(...each, { steps: 8 });
  await page.mouse.up();
}

/** Makes the brush as wide as a part of the longer side. */
async function brush(page, percent) {
  await page.getByRole("slider", { name: "Brush size" }).fill(String(percent));
}

async function openEditor(page, name = "Paint a mask") {
  await page.getByRole("button", { name }).click();
  await editor(page).waitFor();
}

async function use(page) {
  await tool(page, "Use this mask").click();
  await field(page).getByText(/is generated anew$/).waitFor();
}

/** Red, green and blue of each pixel of an image at a URL. */
async function pixels(page, url) {
  const { width, height, data } = await page.evaluate(async (of) => {
    const bitmap = await createImageBitmap(await (await fetch(of)).blob());
    const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d");
    context.drawImage(bitmap, 0, 0);
    return { width: bitmap.width, height: bitmap.height, data: [...context.getImageData(0, 0, bitmap.width, bitmap.height).data] };
  }, url);
  return { width, height, at: (x, y) => data.slice(4 * (y * width + x), 4 * (y * width + x) + 3) };
}

/** The mean difference of two images over the pixels that `isMeant(x, y)` chooses. */
function difference(one, other, isMeant) {
  let [sum, count] = [0, 0];
  for (let y = 0; y < one.height; y += 1) {
    for (let x = 0; x < one.width; x += 1) {
      if (!isMeant(x, y)) continue;
      const [left, right] = [one.at(x, y), other.at(x, y)];
      sum += left.reduce((total, value, channel) => total + Math.abs(value - right[channel]) / 3, 0);
      count += 1;
    }
  }
  return sum / count;
}

for (const colorScheme of ["light", "dark"]) {
  pageTest(`a painted region is generated anew and the rest is kept, ${colorScheme}`, { colorScheme }, async (page) => {
    const sent = submissions(page);
    await begin(page);
    assert.deepEqual(await violationsOf(page), []);
    await openEditor(page);
    assert.equal(await coverage(page), "Nothing is masked yet");
    assert.ok(await tool(page, "Undo").isDisabled());

    // The left third, by one wide stroke.
    await brush(page, 40);
    await drag(page, [0.1, 0.02], [0.1, 0.98]);
    assert.equal(await coverage(page), "30 % is generated anew");
    assert.deepEqual(await violationsOf(page), []);
    await use(page);
    assert.deepEqual(await violationsOf(page), []);
    await page.getByLabel("Prompt", { exact: true }).fill("three red boats on the sea at noon");
    await page.getByRole("textbox", { name: "Strength" }).fill("1");
    await page.getByRole("textbox", { name: "Steps" }).fill("12");
    await generate(page);
    assert.deepEqual(await images(page), [[WIDTH, HEIGHT]]);

    const { endpoint, input } = sent.at(-1);
    assert.equal(endpoint, `${ENDPOINT}/inpaint`);
    assert.ok(input.mask_image_url.startsWith(`${BASE}/files/`), input.mask_image_url);
    const shown = await page.locator("#images img").evaluate((image) => image.src);
    const [mask, before, now] = await Promise.all([input.mask_image_url, input.image_url, shown].map((url) => pixels(page, url)));
    assert.deepEqual([mask.width, mask.height], [WIDTH, HEIGHT]);
    const edge = 0.3 * WIDTH;
    for (let y = 0; y < HEIGHT; y += 1) {
      for (let x = 0; x < WIDTH; x += 1) {
        if (Math.abs(x - edge) > 1.5) assert.deepEqual(mask.at(x, y), x < edge ? [255, 255, 255] : [0, 0, 0], `${x} ${y}`);
      }
    }
    // The latents outside are kept exactly; what they are decoded to depends on their neighbours too, and a little on all others.
    const inside = difference(before, now, (x) => x < edge - 16);
    const outside = difference(before, now, (x) => x > edge + 16);
    assert.ok(inside > 30 && outside < inside / 4, `inside ${inside}, outside ${outside}`);
  });
}

pageTest("a mask is painted, erased, inverted and cleared, each with undo and redo", {}, async (page) => {
  await begin(page);
  await openEditor(page);
  await brush(page, 20);
  // A stroke that is undone while it is drawn does not go on.
  await page.mouse.move(...(await point(page, [0.2, 0.2])));
  await page.mouse.down();
  await page.mouse.move(...(await point(page, [0.4, 0.2])), { steps: 3 });
  await page.keyboard.press("Control+z");
  await page.mouse.move(...(await point(page, [0.8, 0.2])), { steps: 3 });
  await page.mouse.up();
  const seen = [await coverage(page)];
  assert.equal(seen[0], "Nothing is masked yet");
  const note = async () => seen.push(await coverage(page));
  await drag(page, [0.2, 0.5], [0.8, 0.5]);
  await note();
  await tool(page, "Invert").click();
  await note();
  await editor(page).getByRole("radio", { name: "Erase" }).check();
  await drag(page, [0.5, 0.02], [0.5, 0.98]);
  await note();
  await tool(page, "Clear").click();
  await note();
  const parts = seen.map((words) => Number(/^(\d+) %/.exec(words)?.[1] ?? 0));
  assert.ok(parts[1] > 15 && parts[2] === 100 - parts[1] && parts[3] < parts[2] - 5, seen.join());
  assert.equal(seen[4], "Nothing is masked yet");
  const last = seen.length - 1;
  for (let at = last - 1; at >= 0; at -= 1) {
    await (at % 2 ? page.keyboard.press("Control+z") : tool(page, "Undo").click());
    assert.equal(await coverage(page), seen[at]);
  }
  assert.ok(await tool(page, "Undo").isDisabled());
  for (let at = 1; at <= last; at += 1) {
    await (at % 2 ? page.keyboard.press("Control+Shift+z") : tool(page, "Redo").click());
    assert.equal(await coverage(page), seen[at]);
  }
  assert.ok(await tool(page, "Redo").isDisabled());

  // What is masked nowhere is no mask.
  await tool(page, "Use this mask").click();
  await field(page).getByText("Only what is painted over is generated anew").waitFor();
  assert.ok(!(await page.getByRole("button", { name: "Clear the mask" }).isVisible()));
});

pageTest("a mask is painted by keys alone", {}, async (page) => {
  await begin(page);
  await page.getByRole("button", { name: "Paint a mask" }).focus();
  await page.keyboard.press("Enter");
  await editor(page).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), "mask-canvas");
  assert.ok(await page.locator("#mask-ring").isVisible());
  await page.keyboard.press("]");
  assert.equal(await page.getByRole("slider", { name: "Brush size" }).inputValue(), "9");
  for (let times = 0; times < 11; times += 1) await page.keyboard.press("]");
  // From the middle of the image to its left side, half a brush at a time.
  await page.keyboard.press("Space");
  for (let times = 0; times < 6; times += 1) await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("Space");
  for (let times = 0; times < 20; times += 1) await page.keyboard.press("ArrowRight");
  const masked = await page.locator("#mask-canvas").evaluate((canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, canvas.height / 2, canvas.width, 1);
    return [0, 60, 128, 180, 255].map((x) => data[4 * x + 3]);
  });
  assert.deepEqual(masked, [255, 255, 255, 0, 0]);
  const painted = await coverage(page);
  await page.keyboard.press("e");
  await page.keyboard.press("Space");
  for (let times = 0; times < 20; times += 1) await page.keyboard.press("ArrowLeft");
  assert.equal(await coverage(page), "Nothing is masked yet");
  await page.keyboard.press("Control+z");
  await page.keyboard.press("i");
  await page.keyboard.press("i");
  assert.equal(await coverage(page), painted);
  assert.deepEqual(await violationsOf(page), []);
  // Backwards from the canvas to the button above it.
  await page.keyboard.press("Shift+Tab");
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Use this mask");
  await page.keyboard.press("Enter");
  await field(page).getByText(/^Painted · \d+ % is generated anew$/).waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.textContent), "Edit the mask");
});

pageTest("a mask is painted by touch on a phone, and nothing is wider than it", PHONE, async (page, context) => {
  await begin(page, { isPhone: true });
  await page.getByRole("button", { name: "Paint a mask" }).tap();
  const session = await context.newCDPSession(page);
  const touch = async (type, ...points) => {
    const touchPoints = await Promise.all(points.map((each) => point(page, each)));
    await session.send("Input.dispatchTouchEvent", { type, touchPoints: touchPoints.map(([x, y], id) => ({ x, y, id })) });
  };
  await touch("touchStart", [0.2, 0.5]);
  await touch("touchMove", [0.5, 0.5]);
  // A second finger paints nothing.
  await touch("touchMove", [0.5, 0.5], [0.9, 0.9]);
  await touch("touchMove", [0.8, 0.5], [0.1, 0.1]);
  await touch("touchEnd");
  const alpha = await page.locator("#mask-canvas").evaluate((canvas) => {
    const { width, height } = canvas;
    const { data } = canvas.getContext("2d").getImageData(0, 0, width, height);
    return [[0.2, 0.5], [0.5, 0.5], [0.8, 0.5], [0.9, 0.9], [0.1, 0.1]].map(([x, y]) => data[4 * (Math.floor(y * height) * width + Math.floor(x * width)) + 3]);
  });
  assert.deepEqual(alpha, [255, 255, 255, 0, 0]);
  assert.deepEqual(await violationsOf(page), []);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
  await tool(page, "Use this mask").tap();
  await field(page).getByText(/^Painted/).waitFor();
  assert.deepEqual(await violationsOf(page), []);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth), 390);
});

pageTest("what was painted and not used comes back, unless there is another image", { viewport: { width: 1920, height: 1080 } }, async (page) => {
  await begin(page);
  await openEditor(page);
  await page.keyboard.press("Escape");
  await editor(page).waitFor({ state: "hidden" });
  assert.equal(await page.locator(".notice").count(), 0);
  await openEditor(page);
  await drag(page, [0.2, 0.2], [0.8, 0.8]);
  const painted = await coverage(page);
  await page.keyboard.press("Escape");
  await field(page).getByText("Only what is painted over is generated anew").waitFor();
  assert.deepEqual(await violationsOf(page), []);
  await page.getByRole("button", { name: "Bring the changes back" }).click();
  assert.equal(await coverage(page), painted);
  await tool(page, "Undo").click();
  assert.equal(await coverage(page), "Nothing is masked yet");
  await tool(page, "Redo").click();
  assert.equal(await coverage(page), painted);
  await tool(page, "Cancel").click();
  await page.getByRole("button", { name: "Clear the initial image" }).click();
  assert.equal(await page.locator(".notice").count(), 0);
  assert.ok(!(await page.getByRole("button", { name: "Paint a mask" }).isVisible()));
});

/** A mask that is white in its right half, of another size than the image. */
async function maskFile(page) {
  const bytes = await page.evaluate(async () => {
    const context = new OffscreenCanvas(40, 30).getContext("2d", { alpha: false });
    context.fillStyle = "#fff";
    context.fillRect(20, 0, 20, 30);
    return [...new Uint8Array(await (await context.canvas.convertToBlob()).arrayBuffer())];
  });
  const path = join(folder, "right.png");
  writeFileSync(path, Buffer.from(bytes));
  return path;
}

pageTest("a mask is a dropped file, stays with its request, and the Code tab sends it", {}, async (page) => {
  const sent = submissions(page);
  await begin(page);
  const path = await maskFile(page);
  await giveFile(page, path, "drop", "[data-drop=mask]", async () => assert.deepEqual(await violationsOf(page), []));
  await field(page).getByText("right.png · 50 % is generated anew").waitFor();
  await page.getByRole("textbox", { name: "Strength" }).fill("0.5");
  await generate(page);
  await images(page);
  const { endpoint, input } = sent.at(-1);
  assert.equal(endpoint, `${ENDPOINT}/inpaint`);

  await page.getByRole("tab", { name: "Code" }).click();
  for (const language of ["JavaScript", "Python", "curl"]) {
    await page.locator("#language").getByRole("radio", { name: language }).check();
    const program = await page.locator("#code").textContent();
    for (const part of [endpoint, input.image_url, input.mask_image_url]) assert.ok(program.includes(part), `${language}: ${part}`);
  }
  const printed = await runProgram("curl", await page.locator("#code").textContent());
  const again = await pixels(page, /http:\S+?\.png/.exec(printed)[0]);
  const shown = await pixels(page, await page.locator("#images img").evaluate((image) => image.src));
  assert.equal(difference(again, shown, () => true), 0, "the same image");

  // Another image has no mask; the request brings its own back, and a reload keeps it.
  await page.getByRole("button", { name: "Clear the initial image" }).click();
  await page.locator("#history button").first().click();
  await field(page).getByText("A mask of this server · 50 % is generated anew").waitFor();
  await page.reload();
  await field(page).getByText("A mask of this server · 50 % is generated anew").waitFor();
  await openEditor(page, "Edit the mask");
  assert.equal(await coverage(page), "50 % is generated anew");
  await tool(page, "Invert").click();
  await use(page);
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.waitForFunction((url) => document.querySelector("#code").textContent.includes("/inpaint") && !document.querySelector("#code").textContent.includes(url), input.mask_image_url);
  await images(page);
  const inverted = await pixels(page, sent.at(-1).input.mask_image_url);
  assert.deepEqual([inverted.at(10, 10), inverted.at(240, 180)], [[255, 255, 255], [0, 0, 0]]);

  await page.getByRole("button", { name: "Clear the mask" }).click();
  await generate(page);
  await images(page);
  assert.equal(sent.at(-1).endpoint, `${ENDPOINT}/image-to-image`);
  assert.equal(sent.at(-1).input.mask_image_url, undefined);
});

pageTest("a mask that is no image is refused at its field, and a restored file has none", { refusals: true }, async (page) => {
  await begin(page);
  await page.locator("#mask-file").setInputFiles({ name: "words.png", mimeType: "image/png", buffer: Buffer.from("no image") });
  await field(page).getByText("words.png").waitFor();
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.waitForFunction(() => document.querySelector("#problem-mask_image_url").textContent !== "");

  // The settings of the first image, which was made without an image or mask.
  await page.locator("#history button").last().click();
  await images(page);
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("link", { name: "Download image 1" }).click()]);
  const path = join(folder, download.suggestedFilename());
  await download.saveAs(path);
  await page.getByRole("button", { name: "Use as initial image" }).click();
  await giveFile(page, await maskFile(page), "drop", "[data-drop=mask]");
  await field(page).getByText(/^right.png · 50 % is generated anew$/).waitFor();
  await page.locator("#settings-file").setInputFiles(path);
  const notice = page.locator("#notices");
  await notice.getByText(/^The settings of/).waitFor();
  assert.equal(await page.getByLabel("Seed", { exact: true }).inputValue(), "5");
  assert.ok(!(await page.getByRole("button", { name: "Edit the mask" }).isVisible()));
  await notice.getByRole("button", { name: "Undo" }).click();
  await field(page).getByText("A mask of this server · 50 %").waitFor();
});
