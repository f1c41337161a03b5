// The playground with several models: choosing one puts its defaults into the form.

import assert from "node:assert/strict";
import { fileURLToPath } from "node:url";
import { BASE, generate, images, pageTest, size, startServer } from "./support.mjs";

const TINY_MEDIUM = fileURLToPath(new URL("../../parity/golden/dual/model", import.meta.url));

const numbers = async (page) => [
  await page.getByRole("textbox", { name: "Steps" }).inputValue(),
  await page.getByRole("textbox", { name: "Guidance" }).inputValue(),
];

const model = (page, name) => page.locator("#model").getByRole("radio", { name, exact: true });

pageTest("each model has its own defaults, and changed fields stay", {}, async (page) => {
  await page.goto(BASE);
  await model(page, "Large").waitFor();
  assert.deepEqual(await numbers(page), ["28", "3.5"]);
  await page.getByLabel("Prompt", { exact: true }).fill("two boats on a lake");
  await page.getByRole("textbox", { name: "Guidance" }).fill("2");
  await model(page, "Medium").check();
  await page.waitForFunction(() => document.querySelector("#num_inference_steps").value === "40");
  assert.deepEqual(await numbers(page), ["40", "2"]);
  await model(page, "Large Turbo").check();
  await page.waitForFunction(() => document.querySelector("#num_inference_steps").value === "4");
  await page.getByRole("button", { name: "Back to the defaults" }).click();
  assert.deepEqual(await numbers(page), ["4", "1"]);
  assert.equal(await page.getByLabel("Prompt", { exact: true }).inputValue(), "two boats on a lake");

  await page.getByRole("tab", { name: "Code" }).click();
  assert.ok((await page.locator("#code").textContent()).includes("fal-ai/stable-diffusion-v35-large/turbo"));
  await size(page, 128, 96);
  await generate(page);
  assert.deepEqual(await images(page), [[128, 96]]);
  await page.getByRole("tab", { name: "Log" }).click();
  const lines = await page.locator("#log li").allTextContents();
  assert.ok(lines.some((line) => line.includes("step 4/4")), `${lines}`);

  await page.reload();
  await model(page, "Large Turbo").waitFor();
  await page.waitForFunction(() => document.querySelector("#num_inference_steps").value === "4");
  assert.ok(await model(page, "Large Turbo").isChecked(), "a reload keeps the model");
  await model(page, "Large").check();
  await page.waitForFunction(() => document.querySelector("#num_inference_steps").value === "28");
  await page.locator("#history button").first().click();
  await page.waitForFunction(() => document.querySelector("#num_inference_steps").value === "4");
  assert.ok(await model(page, "Large Turbo").isChecked(), "an earlier image restores its model");
});

const one = await startServer({ args: ["--model", TINY_MEDIUM, "--safety-checker", "none"] });

pageTest("with one model there is no choice, and its defaults are used", { origins: [one.origin] }, async (page) => {
  await page.goto(one.url);
  await page.waitForFunction(() => document.querySelector("#num_inference_steps").value === "40");
  assert.ok(!(await page.locator("#model").isVisible()));
  await page.getByText("Stable Diffusion 3.5 Medium", { exact: true }).waitFor();
  assert.ok(!(await page.getByText("What it knows").isVisible()));
  await page.getByLabel("Prompt", { exact: true }).fill("two whales");
  await size(page, 64, 64);
  await generate(page);
  assert.deepEqual(await images(page), [[64, 64]]);
});
