// Skip-layer guidance: its fields are checked and sent, and a file of `latentd generate` restores them.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { promisify } from "node:util";
import { BASE, generate, giveFile, images, pageTest, phase, shownFiles, small, submissions, violationsOf } from "./support.mjs";

const folder = mkdtempSync(join(tmpdir(), "latentd-skip-layers-"));
after(() => rmSync(folder, { recursive: true }));
const run = promisify(execFile);
const group = (page) => page.getByRole("group", { name: "Skip-layer guidance" });
const layers = (page) => group(page).getByLabel("Layers that are skipped");
const number = (page, name) => group(page).getByRole("textbox", { name, exact: true });
const problem = (page) => page.locator("#problem-skip_guidance_layers");

for (const colorScheme of ["light", "dark"]) {
  pageTest(`skip-layer guidance is checked, sent, and restored from a file, ${colorScheme}`, { colorScheme }, async (page) => {
    const path = join(folder, `${colorScheme}.png`);
    const settings = ["--seed", "7", "--steps", "6", "--width", "128", "--height", "96"];
    await run(process.env.LATENTD_BIN, ["generate", "a red house", "-o", path, ...settings, "--skip-layers", "1,2", "--skip-stop", "0.6"]);
    const sent = submissions(page);
    await page.goto(BASE);
    await small(page, "a red house");
    assert.ok(await number(page, "Scale").isHidden());
    await layers(page).fill("1, 4");
    await page.keyboard.press("Tab");
    assert.equal(await problem(page).textContent(), "Numbers from 0 to 3, with commas between.");
    assert.deepEqual(await violationsOf(page), []);
    await layers(page).fill("2 1");
    await number(page, "Stop").fill("1.5");
    await page.getByRole("button", { name: /^Generate/ }).click();
    await group(page).getByText("A number from 0 to 1.").waitFor();
    await number(page, "Stop").fill("0.9");
    await page.getByRole("textbox", { name: "Guidance" }).fill("1");
    await page.getByRole("button", { name: /^Generate/ }).click();
    await problem(page).getByText("It needs a guidance above 1.").waitFor();
    await page.getByRole("textbox", { name: "Guidance" }).fill("4");
    await generate(page);
    await images(page);
    const { skip_guidance_layers: sentLayers, skip_layer_guidance_stop: stop, skip_layer_guidance_scale: scale } = sent[0].input;
    assert.deepEqual([sentLayers, stop, scale], [[2, 1], 0.9, undefined]);

    await giveFile(page, path, "drop", "[data-drop=settings]");
    await page.locator("#notices").getByText("are in the form").waitFor();
    assert.equal(await layers(page).inputValue(), "1, 2");
    assert.equal(await number(page, "Stop").inputValue(), "0.6");
    await generate(page);
    await images(page);
    assert.deepEqual(await shownFiles(page), [readFileSync(path)], "the same file, byte for byte");
    await page.getByRole("button", { name: "Back to the defaults" }).click();
    assert.equal(await layers(page).inputValue(), "");
    assert.ok(await number(page, "Stop").isHidden());
  });
}

pageTest("there are no fields for skip-layer guidance where the endpoint has none", {}, async (page) => {
  const described = await (await fetch(`${BASE}/openapi.json`)).json();
  for (const { properties } of Object.values(described.components.schemas)) if (properties) delete properties.skip_guidance_layers;
  await page.route("**/openapi.json", (route) => route.fulfill({ json: described }));
  await page.goto(BASE);
  await page.locator("#pixels").getByText("1024 × 768").waitFor();
  await phase(page, "empty");
  assert.ok(await group(page).isHidden());
});
