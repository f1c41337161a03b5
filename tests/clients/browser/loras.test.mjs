// LoRA adapters: the fields are there where the endpoint's schema has them, and their values are sent and shown again.

import assert from "node:assert/strict";
import { BASE, generate, images, pageTest, phase, small, violationsOf } from "./support.mjs";

const document = await (await fetch(`${BASE}/openapi.json`)).json();
const INPUT = "StableDiffusionV35LargeInput";

/** The server's document, in which the endpoint of the large model has `loras` as fal's has, or no endpoint has. */
function described(withLoras) {
  const changed = structuredClone(document);
  const { schemas } = changed.components;
  for (const { properties } of Object.values(schemas)) if (properties) delete properties.loras;
  if (!withLoras) return changed;
  schemas[INPUT].properties.loras = { type: "array", items: { $ref: "#/components/schemas/LoraWeight" }, maxItems: 2, default: [] };
  schemas.LoraWeight = {
    type: "object",
    required: ["path"],
    properties: { path: { type: "string" }, scale: { type: "number", default: 1, minimum: 0, maximum: 4 } },
  };
  return changed;
}

const stub = (page, withLoras) => page.route("**/openapi.json", (route) => route.fulfill({ json: described(withLoras) }));
const group = (page) => page.getByRole("group", { name: "LoRA adapters" });

for (const colorScheme of ["light", "dark"]) {
  pageTest(`LoRA adapters are added, checked, sent and restored, ${colorScheme}`, { colorScheme }, async (page) => {
    await stub(page, true);
    const sent = [];
    await page.route("**/queue/fal-ai/stable-diffusion-v35-large", (route) => {
      const { loras, ...input } = route.request().postDataJSON();
      sent.push(loras);
      route.continue({ postData: JSON.stringify(input) });
    });
    await page.goto(BASE);
    await small(page);
    await page.getByRole("button", { name: "Add a LoRA" }).click();
    assert.equal(await page.evaluate(() => globalThis.document.activeElement.getAttribute("aria-label")), "LoRA file");
    await page.getByRole("button", { name: /^Generate/ }).click();
    await group(page).getByText("1: Name a file").waitFor();
    assert.deepEqual(await violationsOf(page), []);
    await page.keyboard.type("owner/style");
    await group(page).getByLabel("Scale").fill("5");
    await page.getByRole("button", { name: /^Generate/ }).click();
    await group(page).getByText("1: A scale from 0 to 4.").waitFor();
    await group(page).getByLabel("Scale").fill("0.5");
    await page.getByRole("button", { name: "Add a LoRA" }).click();
    assert.ok(!(await page.getByRole("button", { name: "Add a LoRA" }).isVisible()), "the schema allows two");
    await group(page).getByLabel("LoRA file").nth(1).fill("https://example.com/a.safetensors");
    assert.deepEqual(await violationsOf(page), []);
    await generate(page);
    await images(page);
    const loras = [{ path: "owner/style", scale: 0.5 }, { path: "https://example.com/a.safetensors", scale: 1 }];
    assert.deepEqual(sent, [loras]);

    await page.getByRole("tab", { name: "Code" }).click();
    assert.match(await page.locator("#code").textContent(), /loras: \[\{\s+path: "owner\/style",\s+scale: 0.5,/);
    await page.getByRole("radio", { name: "Python" }).check();
    assert.match(await page.locator("#code").textContent(), /"loras": \[\{\s+"path": "owner\/style",\s+"scale": 0.5,/);
    await page.getByRole("button", { name: "Remove this LoRA" }).first().click();
    await page.getByRole("button", { name: "Back to the defaults" }).click();
    assert.equal(await group(page).getByLabel("LoRA file").count(), 0);
    await page.reload();
    await page.locator("#history button").click();
    assert.deepEqual(await group(page).getByLabel("LoRA file").evaluateAll((all) => all.map(({ value }) => value)), loras.map(({ path }) => path));

    // Another model does not take them.
    await page.locator("#model").getByRole("radio", { name: "Medium" }).check();
    await page.getByRole("button", { name: /^Generate/ }).click();
    await group(page).getByText("This model takes no LoRA").first().waitFor();
    for (const left of [1, 0]) {
      await page.getByRole("button", { name: "Remove this LoRA" }).first().click();
      assert.equal(await group(page).getByLabel("LoRA file").count(), left);
    }
    assert.ok(!(await group(page).isVisible()));
  });
}

pageTest("the server's refusal of an adapter is shown at it, and a file is uploaded", { refusals: true }, async (page) => {
  await stub(page, true);
  await page.goto(BASE);
  await small(page);
  await page.locator("#lora-file").setInputFiles({ name: "a.safetensors", mimeType: "", buffer: Buffer.from("no adapter") });
  await page.waitForFunction(() => globalThis.document.querySelector("[aria-label='LoRA file']")?.value.includes("/files/"));
  await page.route("**/queue/fal-ai/stable-diffusion-v35-large", (route) => {
    const detail = [{ loc: ["body", "loras", 0, "path"], msg: "The file is no adapter", type: "value_error" }];
    return route.fulfill({ status: 422, json: { detail } });
  });
  await page.getByRole("button", { name: /^Generate/ }).click();
  await group(page).getByText("1: The file is no adapter").waitFor();
  assert.equal(await group(page).getByLabel("LoRA file").getAttribute("aria-invalid"), "true");
  assert.equal(await group(page).getByLabel("Scale").getAttribute("aria-invalid"), null);
});

pageTest("there are no fields for LoRA adapters where the endpoint has none", {}, async (page) => {
  await stub(page, false);
  await page.goto(BASE);
  await page.locator("#pixels").getByText("1024 × 768").waitFor();
  await phase(page, "empty");
  assert.ok(!(await group(page).isVisible()));
});
