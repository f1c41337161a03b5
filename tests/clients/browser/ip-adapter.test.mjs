// An IP-Adapter: its fields are there where the endpoint's schema has them, and their values are sent, shown again and put into programs.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { BASE, PHONE, generate, giveFile, images, pageTest, phase, runProgram, shownFiles, size, small, submissions, violationsOf } from "./support.mjs";

const folder = mkdtempSync(join(tmpdir(), "latentd-ip-adapter-"));
after(() => rmSync(folder, { recursive: true }));
const HOUSE = fileURLToPath(new URL("../../../docs/images/red-house.jpg", import.meta.url));
const SIGLIP = "google/siglip-so400m-patch14-384";
const group = (page) => page.getByRole("group", { name: "IP-Adapter" });
const problem = (page) => page.locator("#problem-ip_adapter");
const send = (page) => page.getByRole("button", { name: /^Generate/ }).click();
const path = (page) => group(page).getByLabel("IP-Adapter file");
const encoder = (page) => group(page).getByLabel("Image encoder");
const scale = (page) => group(page).getByRole("textbox", { name: "Scale" });

/** The values of the text fields that are shown. */
const values = (page) =>
  group(page).locator("input:not([type])").evaluateAll((all) => all.filter((input) => input.checkVisibility()).map(({ value }) => value));

async function add(page, text = "style") {
  await page.getByRole("button", { name: "Add an IP-Adapter" }).click();
  assert.equal(await page.evaluate(() => document.activeElement.id), "ip_adapter-path");
  if (text) await page.keyboard.type(text);
}

for (const colorScheme of ["light", "dark"]) {
  pageTest(`an IP-Adapter is checked, sent, restored and put into programs, ${colorScheme}`, { colorScheme }, async (page) => {
    const sent = submissions(page);
    await page.goto(BASE);
    await page.getByLabel("Prompt", { exact: true }).fill("a red house on the left of a lake");
    await page.getByRole("textbox", { name: "Steps" }).fill("4");
    await add(page, "");
    assert.deepEqual(await page.locator("#ip_adapter-names option").evaluateAll((all) => all.map(({ value }) => value)), ["style"]);
    assert.deepEqual(await values(page), ["", SIGLIP, "0.5"]);
    await encoder(page).fill("");
    await send(page);
    await problem(page).getByText("File: Name one: a URL, or owner/name on the Hugging Face hub. Image encoder: Name one").waitFor();
    await problem(page).getByText("Image prompt: Choose one.").waitFor();
    assert.deepEqual(await violationsOf(page), []);
    await path(page).fill("style");
    // A name is that of an encoder too.
    assert.ok(await encoder(page).isHidden());
    await page.locator("#image-prompt-file").setInputFiles(HOUSE);
    await group(page).getByText("red-house.jpg · 1024 × 768").waitFor();
    assert.ok(!(await page.getByRole("radio", { name: "Same" }).isVisible()), "it says nothing of the size");
    const beyond = () => page.evaluate(() => document.documentElement.scrollHeight - innerHeight);
    assert.equal(await beyond(), 0, "the form scrolls, not the page");
    await scale(page).fill("5");
    await send(page);
    assert.equal(await problem(page).textContent(), "Scale: A number from 0 to 4.");
    await group(page).getByRole("slider", { name: "Scale of the IP-Adapter" }).fill("0.8");
    assert.deepEqual(await violationsOf(page), []);
    await size(page, 128, 96);
    await generate(page);
    assert.deepEqual(await images(page), [[128, 96]]);
    const { ip_adapter: adapter } = sent[0].input;
    const { image_url: url, ...others } = adapter;
    assert.ok(url.startsWith(`${BASE}/files/`), url);
    assert.deepEqual(others, { path: "style", image_encoder_path: "style", scale: 0.8 });

    const [shown] = await shownFiles(page);
    const file = join(folder, `${colorScheme}.jpeg`);
    writeFileSync(file, shown);
    await page.getByRole("tab", { name: "Code" }).click();
    for (const language of ["JavaScript", "Python", "curl"]) {
      await page.getByRole("radio", { name: language }).check();
      const printed = await runProgram(language, await page.locator("#code").textContent());
      const [made] = /http[^\s"]+/.exec(printed);
      assert.deepEqual(Buffer.from(await (await fetch(made)).arrayBuffer()), shown, language);
    }

    await page.getByRole("button", { name: "Remove the IP-Adapter" }).click();
    assert.equal(await page.evaluate(() => document.activeElement.id), "ip_adapter-add");
    await page.reload();
    await page.locator("#history button").click();
    await group(page).getByText("An image of this server · 1024 × 768").waitFor();
    assert.deepEqual(await values(page), ["style", "0.8"]);
    await generate(page);
    await images(page);
    assert.deepEqual(sent.at(-1).input.ip_adapter, adapter);
    await page.getByRole("button", { name: "Back to the defaults" }).click();
    assert.ok(await page.getByRole("button", { name: "Add an IP-Adapter" }).isVisible());

    // A file has all but the image prompt.
    await giveFile(page, file, "drop", "[data-drop=settings]");
    await page.locator("#notices").getByText("are in the form").waitFor();
    assert.deepEqual(await values(page), ["style", "0.8"]);
    await send(page);
    assert.equal(await problem(page).textContent(), "Image prompt: Choose one.");
    await page.locator("#image-prompt-file").setInputFiles(HOUSE);
    await generate(page);
    await images(page);
    assert.deepEqual(await shownFiles(page), [shown]);
  });
}

for (const kind of ["drop", "paste"]) {
  pageTest(`an image prompt is used by ${kind}`, {}, async (page) => {
    await page.goto(BASE);
    await page.locator("#pixels").getByText("1024 × 768").waitFor();
    if (kind === "paste") await add(page);
    await giveFile(page, HOUSE, kind, "[data-drop=image-prompt]");
    await group(page).getByText(/^red-house.jpg · 1024 × 768/).waitFor();
    for (const other of ["initial", "control"]) assert.ok(await page.locator(`#${other}-set`).isHidden(), `it is no ${other} image`);
    await page.getByRole("button", { name: "Clear the image prompt" }).click();
    assert.equal(await page.evaluate(() => document.activeElement.id), "image-prompt-file");
  });
}

pageTest("an image prompt and a control image are given by URL", {}, async (page) => {
  const sent = submissions(page);
  await page.goto(BASE);
  await small(page, "a tall tower");
  await generate(page);
  await images(page);
  const [url] = await page.locator("#images img").evaluateAll((all) => all.map(({ src }) => src));
  await add(page);
  await page.getByRole("button", { name: "Add a ControlNet" }).click();
  await page.keyboard.type("edges");
  for (const noun of ["image prompt", "control image"]) {
    const field = page.getByLabel(`URL of the ${noun}`);
    await field.fill(url);
    await field.blur();
    assert.ok(await field.isHidden());
  }
  await group(page).getByText(`${url} · 128 × 96`).waitFor();
  await generate(page);
  await images(page);
  const { ip_adapter: adapter, controlnet } = sent[1].input;
  assert.deepEqual(adapter, { path: "style", image_encoder_path: "style", image_url: url, scale: 0.5 });
  assert.deepEqual(controlnet, { path: "edges", control_image_url: url });
});

pageTest("a result is used as the image prompt, also on a phone", PHONE, async (page) => {
  const sent = submissions(page);
  await page.goto(BASE);
  await page.locator("#settings > summary").tap();
  await small(page, "a tall tower");
  await generate(page);
  await images(page);
  const use = page.getByRole("button", { name: "Use as image prompt" });
  assert.ok(await use.isHidden(), "there is no IP-Adapter yet");
  await page.getByRole("button", { name: "Add an IP-Adapter" }).tap();
  assert.ok(await page.getByRole("button", { name: "Use as control image" }).isHidden());
  await page.locator("#settings > summary").tap();
  await use.tap();
  await group(page).getByText("a tall tower · 128 × 96").waitFor();
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth - innerWidth), 0);
  assert.deepEqual(await violationsOf(page), []);
  await path(page).fill("style");
  await generate(page);
  assert.deepEqual(await images(page), [[128, 96]]);
  assert.match(sent[1].input.ip_adapter.image_url, /\/files\/\w+\.jpeg$/);
});

pageTest("the server's refusal is shown at its field, and a file of an IP-Adapter is uploaded", { refusals: true }, async (page) => {
  await page.goto(BASE);
  await small(page);
  await add(page, "");
  const bad = { name: "adapter.safetensors", mimeType: "", buffer: Buffer.from("no IP-Adapter") };
  await page.locator("#ip_adapter-file").setInputFiles(bad);
  await page.waitForFunction(() => document.querySelector("#ip_adapter-path").value.includes("/files/"));
  await page.locator("#image-prompt-file").setInputFiles(HOUSE);
  await encoder(page).fill("https://example.com/model.safetensors");
  await send(page);
  await problem(page).getByText(/^Image encoder: An image encoder is three files/).waitFor();
  assert.equal(await encoder(page).getAttribute("aria-invalid"), "true");
  await encoder(page).fill("style");
  await send(page);
  await problem(page).getByText(/^File: the IP-Adapter http/).waitFor();
  assert.equal(await path(page).getAttribute("aria-invalid"), "true");
  assert.equal(await scale(page).getAttribute("aria-invalid"), null);
});

pageTest("there are no fields for an IP-Adapter where the endpoint has none, and one that is filled says so", {}, async (page) => {
  const described = await (await fetch(`${BASE}/openapi.json`)).json();
  for (const { properties } of Object.values(described.components.schemas)) if (properties) delete properties.ip_adapter;
  await page.addInitScript(() => {
    const ip_adapter = { path: "style", image_encoder_path: "style", image_url: "https://example.com/style.png", scale: 1 };
    if (location.search === "?filled") localStorage.setItem("latentd.draft", JSON.stringify({ prompt: "a fox", ip_adapter }));
  });
  await page.route("**/openapi.json", (route) => route.fulfill({ json: described }));
  await page.goto(BASE);
  await page.locator("#pixels").getByText("1024 × 768").waitFor();
  await phase(page, "empty");
  assert.ok(!(await group(page).isVisible()));
  await page.goto(`${BASE}/?filled`);
  await group(page).waitFor();
  await send(page);
  await problem(page).getByText("This model takes no IP-Adapter").waitFor();
  await page.getByRole("button", { name: "Remove the IP-Adapter" }).click();
  assert.ok(!(await group(page).isVisible()));
});
