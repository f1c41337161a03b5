// A ControlNet: its fields are there where the endpoint's schema has them, and their values are sent, shown again and put into programs.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { BASE, PHONE, generate, giveFile, images, pageTest, phase, runProgram, shownFiles, size, small, submissions, violationsOf } from "./support.mjs";

const folder = mkdtempSync(join(tmpdir(), "latentd-controlnet-"));
after(() => rmSync(folder, { recursive: true }));
const HOUSE = fileURLToPath(new URL("../../../docs/images/red-house.jpg", import.meta.url));
const group = (page) => page.getByRole("group", { name: "ControlNet" });
const problem = (page) => page.locator("#problem-controlnet");
const send = (page) => page.getByRole("button", { name: /^Generate/ }).click();

/** The values of the text fields, by their names for people. */
const values = (page) =>
  group(page).locator("input:not([type])").evaluateAll((all) => all.map((input) => input.value));

async function add(page, path = "edges") {
  await page.getByRole("button", { name: "Add a ControlNet" }).click();
  assert.equal(await page.evaluate(() => document.activeElement.id), "controlnet-path");
  if (path) await page.keyboard.type(path);
}

for (const colorScheme of ["light", "dark"]) {
  pageTest(`a ControlNet is checked, sent, restored and put into programs, ${colorScheme}`, { colorScheme }, async (page) => {
    const sent = submissions(page);
    await page.goto(BASE);
    await page.getByLabel("Prompt", { exact: true }).fill("a red house on the left of a lake");
    await page.getByRole("textbox", { name: "Steps" }).fill("4");
    await add(page, "");
    assert.deepEqual(await page.locator("#controlnet-names option").evaluateAll((all) => all.map(({ value }) => value)), ["edges"]);
    await send(page);
    await problem(page).getByText("File: Name one: a URL, or owner/name on the Hugging Face hub. Control image: Choose one.").waitFor();
    assert.deepEqual(await violationsOf(page), []);
    await page.keyboard.type("edges");
    await page.locator("#control-file").setInputFiles(HOUSE);
    await group(page).getByText("red-house.jpg · 1024 × 768").waitFor();
    assert.ok(await page.getByRole("radio", { name: "Same" }).isChecked());
    assert.equal(await page.locator("#pixels").textContent(), "1024 × 768");
    await group(page).getByRole("textbox", { name: "Scale" }).fill("3");
    await send(page);
    assert.equal(await problem(page).textContent(), "Scale: A number from 0 to 2.");
    await group(page).getByRole("textbox", { name: "Scale" }).fill("0.5");
    await group(page).getByRole("slider", { name: "End of the ControlNet" }).fill("0.8");
    assert.deepEqual(await violationsOf(page), []);
    await size(page, 128, 96);
    await generate(page);
    assert.deepEqual(await images(page), [[128, 96]]);
    const { controlnet } = sent[0].input;
    const { control_image_url: url, ...others } = controlnet;
    assert.ok(url.startsWith(`${BASE}/files/`), url);
    assert.deepEqual(others, { path: "edges", conditioning_scale: 0.5, end_percentage: 0.8 });

    const [shown] = await shownFiles(page);
    const path = join(folder, `${colorScheme}.jpeg`);
    writeFileSync(path, shown);
    await page.getByRole("tab", { name: "Code" }).click();
    for (const language of ["JavaScript", "Python", "curl"]) {
      await page.getByRole("radio", { name: language }).check();
      const printed = await runProgram(language, await page.locator("#code").textContent());
      const [made] = /http[^\s"]+/.exec(printed);
      assert.deepEqual(Buffer.from(await (await fetch(made)).arrayBuffer()), shown, language);
    }

    await page.getByRole("button", { name: "Remove the ControlNet" }).click();
    assert.equal(await page.evaluate(() => document.activeElement.id), "controlnet-add");
    assert.ok(!(await page.getByRole("radio", { name: "Same" }).isVisible()));
    await page.reload();
    await page.locator("#history button").click();
    await group(page).getByText("An image of this server · 1024 × 768").waitFor();
    assert.deepEqual(await values(page), ["edges", "0.5", "0", "0.8"]);
    await generate(page);
    await images(page);
    assert.deepEqual(sent.at(-1).input.controlnet, controlnet);
    await page.getByRole("button", { name: "Back to the defaults" }).click();
    assert.ok(await page.getByRole("button", { name: "Add a ControlNet" }).isVisible());

    // A file has all but the control image.
    await giveFile(page, path, "drop", "[data-drop=settings]");
    await page.locator("#notices").getByText("are in the form").waitFor();
    assert.deepEqual(await values(page), ["edges", "0.5", "0", "0.8"]);
    await send(page);
    assert.equal(await problem(page).textContent(), "Control image: Choose one.");
    await page.locator("#control-file").setInputFiles(HOUSE);
    await generate(page);
    await images(page);
    assert.deepEqual(await shownFiles(page), [shown]);
  });
}

pageTest("without a size the image is as large as its control image", {}, async (page) => {
  const sent = submissions(page);
  await page.goto(BASE);
  await page.getByLabel("Prompt", { exact: true }).fill("a red house");
  await page.getByRole("textbox", { name: "Steps" }).fill("2");
  await add(page);
  await page.locator("#control-file").setInputFiles(HOUSE);
  await page.getByRole("radio", { name: "Same" }).waitFor();
  await generate(page);
  assert.deepEqual(await images(page), [[1024, 768]]);
  assert.equal(sent[0].input.image_size, undefined);
  // The default size is none that can be left out here.
  await page.getByRole("radio", { name: "4:3", exact: true }).check();
  await generate(page);
  assert.equal(sent[1].input.image_size, "landscape_4_3");
});

for (const kind of ["drop", "paste"]) {
  pageTest(`a control image is used by ${kind}`, {}, async (page) => {
    await page.goto(BASE);
    await page.locator("#pixels").getByText("1024 × 768").waitFor();
    if (kind === "paste") await add(page);
    await giveFile(page, HOUSE, kind, "[data-drop=control]");
    await group(page).getByText(/^red-house.jpg · 1024 × 768/).waitFor();
    assert.ok(await page.locator("#initial-set").isHidden(), "it is no initial image");
    await page.getByRole("button", { name: "Clear the control image" }).click();
    assert.equal(await page.evaluate(() => document.activeElement.id), "control-file");
    assert.ok(!(await page.getByRole("radio", { name: "Same" }).isVisible()));
  });
}

pageTest("a result is used as the control image, also on a phone", PHONE, async (page) => {
  const sent = submissions(page);
  await page.goto(BASE);
  await page.locator("#settings > summary").tap();
  await small(page, "a tall tower");
  await generate(page);
  await images(page);
  const follow = page.getByRole("button", { name: "Use as control image" });
  assert.ok(await follow.isHidden(), "there is no ControlNet yet");
  await page.getByRole("button", { name: "Add a ControlNet" }).tap();
  await page.locator("#settings > summary").tap();
  await follow.tap();
  await group(page).getByText("a tall tower · 128 × 96").waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
  assert.deepEqual(await violationsOf(page), []);
  await group(page).getByLabel("ControlNet file").fill("edges");
  await generate(page);
  assert.deepEqual(await images(page), [[128, 96]]);
  assert.match(sent[1].input.controlnet.control_image_url, /\/files\/\w+\.jpeg$/);
});

pageTest("the server's refusal is shown at its field, and a file of a ControlNet is uploaded", { refusals: true }, async (page) => {
  await page.goto(BASE);
  await small(page);
  await add(page, "");
  const bad = { name: "net.safetensors", mimeType: "", buffer: Buffer.from("no ControlNet") };
  await page.locator("#controlnet-file").setInputFiles(bad);
  await page.waitForFunction(() => document.querySelector("#controlnet-path").value.includes("/files/"));
  await page.locator("#control-file").setInputFiles(HOUSE);
  await send(page);
  await problem(page).getByText(/^File: the ControlNet http/).waitFor();
  assert.equal(await group(page).getByLabel("ControlNet file").getAttribute("aria-invalid"), "true");
  assert.equal(await group(page).getByRole("textbox", { name: "Scale" }).getAttribute("aria-invalid"), null);
});

pageTest("there are no fields for a ControlNet where the endpoint has none, and one that is filled says so", {}, async (page) => {
  const described = await (await fetch(`${BASE}/openapi.json`)).json();
  for (const { properties } of Object.values(described.components.schemas)) if (properties) delete properties.controlnet;
  await page.addInitScript(() => {
    const controlnet = { path: "edges", control_image_url: "https://example.com/edges.png" };
    if (location.search === "?filled") localStorage.setItem("latentd.draft", JSON.stringify({ prompt: "a fox", controlnet }));
  });
  await page.route("**/openapi.json", (route) => route.fulfill({ json: described }));
  await page.goto(BASE);
  await page.locator("#pixels").getByText("1024 × 768").waitFor();
  await phase(page, "empty");
  assert.ok(!(await group(page).isVisible()));
  await page.goto(`${BASE}/?filled`);
  await group(page).waitFor();
  await send(page);
  await problem(page).getByText("This model takes no ControlNet").waitFor();
  await page.getByRole("button", { name: "Remove the ControlNet" }).click();
  assert.ok(!(await group(page).isVisible()));
});
