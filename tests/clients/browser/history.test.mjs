// Earlier images: shown again with their settings, deleted, and marked when the server no longer has them.

import assert from "node:assert/strict";
import { rmSync } from "node:fs";
import { join } from "node:path";
import { BASE, generate, phase, images, pageTest, small, startServer } from "./support.mjs";

pageTest("an earlier image comes back with its settings", {}, async (page) => {
  await page.goto(BASE);
  await small(page, "a red house");
  await page.getByLabel("Negative prompt").fill("trees");
  await page.getByLabel("Seed", { exact: true }).fill("11");
  await page.getByLabel("Safety checker").uncheck();
  const first = await generate(page);
  await images(page);
  await page.getByRole("button", { name: "Back to the defaults" }).click();
  await small(page, "a tall tower");
  await page.getByLabel("Seed", { exact: true }).fill("12");
  await generate(page);
  await images(page);

  await page.reload();
  await page.getByRole("navigation").getByRole("button", { name: "a red house" }).click();
  await images(page);
  assert.ok(page.url().endsWith(`#request=${first}`));
  assert.equal(await page.getByLabel("Prompt", { exact: true }).inputValue(), "a red house");
  assert.equal(await page.getByLabel("Negative prompt").inputValue(), "trees");
  assert.equal(await page.getByLabel("Seed", { exact: true }).inputValue(), "11");
  assert.equal(await page.getByLabel("Width").inputValue(), "128");
  assert.equal(await page.getByRole("textbox", { name: "Steps" }).inputValue(), "4");
  assert.equal(await page.getByLabel("Safety checker").isChecked(), false);

  await page.getByRole("tab", { name: "Log" }).click();
  await page.locator("#log").getByText("step 4/4").waitFor();
  await page.getByRole("tab", { name: "Image" }).click();

  const image = await page.locator("#images img").evaluate((image) => image.src);
  assert.equal((await fetch(image)).status, 200);
  await page.getByRole("button", { name: "Delete" }).click();
  await phase(page, "empty");
  await page.getByRole("button", { name: "Close this notice" }).click();
  while ((await fetch(image)).status !== 404) await new Promise((resolve) => setTimeout(resolve, 50));
  assert.equal((await fetch(`${BASE}/requests/${first}`)).status, 404);
  await page.reload();
  await page.getByRole("navigation").getByRole("button", { name: "a tall tower" }).waitFor();
  assert.equal(await page.locator("#history li").count(), 1);
});

pageTest("two requests at once: one shown, one in progress", {}, async (page) => {
  await page.goto(BASE);
  await small(page, "first");
  const first = await generate(page);
  await page.getByLabel("Prompt", { exact: true }).fill("second");
  const second = await generate(page);
  assert.notEqual(first, second);
  await images(page);
  await page.getByRole("button", { name: "first", exact: true }).click();
  await images(page);
  assert.ok(page.url().endsWith(first));
});

const own = await startServer();
const refusing = { refusals: true, origins: [own.origin] };

pageTest("an image that the server no longer has is shown as such", refusing, async (page) => {
  await page.goto(own.url);
  await small(page, "a lost image");
  await generate(page);
  await images(page);
  await page.waitForFunction(() => document.querySelector("#history img").src.startsWith("data:"));
  rmSync(join(own.data, "files"), { recursive: true });
  await page.goto("about:blank");
  await page.goto(own.url);
  await page.getByRole("button", { name: "a lost image, no longer on the server" }).click();
  await page.getByText("The server no longer has this image").waitFor();
  assert.equal(await page.getByRole("link", { name: /Download/ }).count(), 0);
});
