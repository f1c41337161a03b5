// Image to image: an initial image is chosen, dropped, pasted, or taken from a result, and the endpoint follows.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { BASE, ENDPOINT, PHONE, generate, giveFile, images, pageTest, small, submissions, violationsOf } from "./support.mjs";

const HOUSE = fileURLToPath(new URL("../../../docs/images/red-house.jpg", import.meta.url));
const field = (page) => page.locator("#initial");

for (const colorScheme of ["light", "dark"]) {
  pageTest(`a chosen file is uploaded, and the image has its size, ${colorScheme}`, { colorScheme }, async (page) => {
    const sent = submissions(page);
    await page.goto(BASE);
    await small(page, "a red house");
    await page.locator("#initial-file").setInputFiles(HOUSE);
    await field(page).getByText("red-house.jpg · 1024 × 768").waitFor();
    assert.ok(await page.getByRole("radio", { name: "Same" }).isChecked());
    assert.equal(await page.locator("#pixels").textContent(), "1024 × 768");
    await page.getByRole("textbox", { name: "Strength" }).fill("0.3");
    assert.deepEqual(await violationsOf(page), []);
    await generate(page);
    assert.deepEqual(await images(page), [[1024, 768]]);
    const [{ endpoint, input }] = sent;
    assert.equal(endpoint, `${ENDPOINT}/image-to-image`);
    assert.ok(input.image_url.startsWith(`${BASE}/files/`), input.image_url);
    assert.deepEqual({ ...input, image_url: "" }, { prompt: "a red house", num_inference_steps: 4, image_url: "", strength: 0.3 });
    assert.deepEqual(Buffer.from(await (await fetch(input.image_url)).arrayBuffer()), readFileSync(HOUSE));

    // A size of its own, and a strength that cannot be.
    await page.getByRole("textbox", { name: "Strength" }).fill("2");
    await page.getByRole("button", { name: /^Generate/ }).click();
    assert.equal(await page.locator("#problem-strength").textContent(), "A number from 0.01 to 1.");
    await page.getByRole("textbox", { name: "Strength" }).fill("0.5");
    await page.getByRole("radio", { name: "Small" }).check();
    await generate(page);
    assert.deepEqual(await images(page), [[512, 512]]);

    await page.reload();
    await field(page).getByText("1024 × 768").waitFor();
    await page.getByRole("button", { name: "Clear the initial image" }).click();
    assert.ok(!(await page.getByRole("textbox", { name: "Strength" }).isVisible()));
    assert.ok(!(await page.getByRole("radio", { name: "Same" }).isVisible()));
    await small(page);
    await generate(page);
    await images(page);
    assert.equal(sent.at(-1).endpoint, ENDPOINT);
    assert.equal(sent.at(-1).input.strength, undefined);
  });
}

for (const kind of ["drop", "paste"]) {
  pageTest(`an image is used by ${kind}`, {}, async (page) => {
    const sent = submissions(page);
    await page.goto(BASE);
    await page.getByLabel("Prompt", { exact: true }).fill("a red house");
    await page.getByRole("textbox", { name: "Steps" }).fill("4");
    await giveFile(page, HOUSE, kind, "[data-drop=initial]");
    await field(page).getByText(/^red-house.jpg · 1024 × 768/).waitFor();
    await generate(page);
    await images(page);
    assert.equal(sent[0].endpoint, `${ENDPOINT}/image-to-image`);
  });
}

pageTest("a result is used as the initial image, of a file and of a data URI, also on a phone", PHONE, async (page) => {
  const sent = submissions(page);
  await page.goto(BASE);
  await page.locator("#settings > summary").tap();
  await small(page, "a tall tower");
  await generate(page);
  await images(page);
  await page.getByRole("button", { name: "Use as initial image" }).tap();
  await field(page).getByText("a tall tower · 128 × 96").waitFor();
  await page.getByLabel("Keep no file on the server").check();
  await generate(page);
  assert.deepEqual(await images(page), [[128, 96]]);
  assert.match(sent[1].input.image_url, /\/files\/\w+\.jpeg$/);

  await page.getByRole("button", { name: "Full size", exact: true }).tap();
  await page.getByRole("dialog").getByRole("button", { name: "Use as initial image" }).tap();
  await generate(page);
  assert.deepEqual(await images(page), [[128, 96]]);
  assert.equal(sent[2].endpoint, `${ENDPOINT}/image-to-image`);
  assert.notEqual(sent[2].input.image_url, sent[1].input.image_url);
});

pageTest("a model without image to image says so, and an earlier request brings its initial image back", {}, async (page) => {
  await page.goto(BASE);
  await small(page, "a red house");
  await page.locator("#initial-file").setInputFiles(HOUSE);
  await page.getByRole("textbox", { name: "Strength" }).fill("0.4");
  await page.getByRole("radio", { name: "Custom" }).check();
  await generate(page);
  await images(page);
  await page.locator("#model").getByRole("radio", { name: "Medium" }).check();
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.locator("#problem-image_url").getByText("This model does not start from an image").waitFor();
  await page.getByRole("button", { name: "Clear the initial image" }).click();
  assert.ok(!(await field(page).isVisible()));

  await page.locator("#history button").first().click();
  await field(page).getByText("1024 × 768").waitFor();
  assert.equal(await page.getByRole("textbox", { name: "Strength" }).inputValue(), "0.4");
  assert.equal(await page.getByLabel("Width").inputValue(), "128");
});

pageTest("a file that is no image is refused at its field", { refusals: true }, async (page) => {
  await page.goto(BASE);
  await small(page);
  const words = { name: "words.png", mimeType: "image/png", buffer: Buffer.from("no image") };
  await page.locator("#initial-file").setInputFiles(words);
  await field(page).getByText("words.png").waitFor();
  await page.getByRole("button", { name: /^Generate/ }).click();
  await page.waitForFunction(() => document.querySelector("#problem-image_url").textContent !== "");
});
