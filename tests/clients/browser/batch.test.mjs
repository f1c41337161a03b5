// One image of several: it is repeated alone, byte for byte, and the Code tab reproduces what is shown.

import assert from "node:assert/strict";
import { BASE, PHONE, generate, images, pageTest, runProgram, shownFiles, small } from "./support.mjs";

/** Generates three PNG files with a seed that the server chooses; returns their bytes. */
async function batch(page) {
  await small(page, "a red house");
  await page.locator("#num_images").getByRole("radio", { name: "3" }).check();
  await page.getByRole("radio", { name: "PNG" }).check();
  await generate(page);
  await images(page);
  return shownFiles(page);
}

pageTest("each image of a batch is repeated alone, byte for byte", {}, async (page) => {
  await page.goto(BASE);
  const files = await batch(page);
  const first = page.url();
  for (const [index, file] of files.entries()) {
    await page.goto(first);
    await images(page);
    const before = page.url();
    const figure = page.locator("#images figure").nth(index);
    await figure.hover();
    await figure.getByRole("button", { name: "Repeat alone" }).click();
    await page.waitForFunction((old) => location.href !== old, before);
    assert.equal((await images(page)).length, 1);
    assert.deepEqual(await shownFiles(page), [file], `image ${index + 1}`);
    const note = page.getByText(`Image ${index + 1} of this seed alone`);
    assert.equal(await note.isVisible(), index > 0);
  }

  // The form repeats it too, until it asks for another image.
  const before = page.url();
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.waitForFunction((old) => location.href !== old, before);
  await images(page);
  assert.deepEqual(await shownFiles(page), [files[2]]);
  await page.getByRole("button", { name: "Back to the first image of the seed" }).click();
  await generate(page);
  await images(page);
  assert.deepEqual(await shownFiles(page), [files[0]]);

  // The file of the batch says which image it is.
  await page.locator("#settings-file").setInputFiles({ name: "third.png", mimeType: "image/png", buffer: files[2] });
  await page.getByText("Image 3 of this seed alone").waitFor();
});

pageTest("an image of a batch is repeated from the full-size view of a phone", PHONE, async (page) => {
  await page.goto(BASE);
  await page.locator("#settings > summary").tap();
  const files = await batch(page);
  const before = page.url();
  await page.getByRole("button", { name: "Full size: image 2" }).tap();
  await page.getByRole("dialog").getByRole("button", { name: "Repeat alone" }).tap();
  await page.waitForFunction((old) => location.href !== old, before);
  await images(page);
  assert.deepEqual(await shownFiles(page), [files[1]]);
});

for (const language of ["JavaScript", "Python", "curl"]) {
  pageTest(`the ${language} program of the Code tab makes the shown images, byte for byte`, {}, async (page) => {
    await page.goto(BASE);
    const files = await batch(page);
    // The form has moved on; the image that is shown has not.
    await page.getByLabel("Prompt", { exact: true }).fill("a tall tower");
    await page.getByRole("tab", { name: "Code" }).click();
    await page.getByRole("radio", { name: language }).check();
    assert.deepEqual(await filesOf(await runProgram(language, await page.locator("#code").textContent())), files);

    await page.getByRole("radio", { name: "The form" }).check();
    assert.match(await page.locator("#code").textContent(), /a tall tower/);
    await page.getByRole("tab", { name: "Image" }).click();
    const before = page.url();
    await page.locator("#images figure").nth(2).hover();
    await page.getByRole("button", { name: "Repeat alone" }).nth(2).click();
    await page.waitForFunction((old) => location.href !== old, before);
    await images(page);
    await page.getByRole("tab", { name: "Code" }).click();
    await page.getByRole("radio", { name: "The image shown" }).check();
    assert.deepEqual(await filesOf(await runProgram(language, await page.locator("#code").textContent())), [files[2]]);
  });
}

/** The files whose URLs a program printed. */
async function filesOf(output) {
  const urls = output.match(/https?:[^\s"',]+\/files\/\w+\.png/g);
  return Promise.all(urls.map(async (url) => Buffer.from(await (await fetch(url)).arrayBuffer())));
}
