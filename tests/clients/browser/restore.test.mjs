// Settings of a generated file: dropping it restores them, and says what else can be done with it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { BASE, generate, giveFile, images, pageTest, shownFiles, small, violationsOf } from "./support.mjs";

const folder = mkdtempSync(join(tmpdir(), "latentd-restore-"));
after(() => rmSync(folder, { recursive: true }));
const run = promisify(execFile);

const PROMPT = `a "red" house & <boats>, näïve 庭 🦊`;

async function fields(page) {
  const text = (name) => page.getByRole("textbox", { name, exact: true }).inputValue();
  return {
    prompt: await page.getByLabel("Prompt", { exact: true }).inputValue(),
    negative: await page.getByLabel("Negative prompt").inputValue(),
    seed: await page.getByLabel("Seed", { exact: true }).inputValue(),
    steps: await text("Steps"),
    guidance: await text("Guidance"),
    size: await page.locator("#sizes input:checked").inputValue(),
  };
}

for (const colorScheme of ["light", "dark"]) {
  pageTest(`dropping a file of latentd generate restores its settings, with undo, ${colorScheme}`, { colorScheme }, async (page) => {
    const path = join(folder, `${colorScheme}.png`);
    const settings = ["--negative-prompt", "fog", "--seed", "-7", "--steps", "3", "--guidance", "2.5", "--width", "128", "--height", "96"];
    await run(process.env.LATENTD_BIN, ["generate", PROMPT, "-o", path, ...settings]);
    await page.goto(BASE);
    await small(page, "what was there before");
    const before = await fields(page);
    await giveFile(page, path, "drop", "[data-drop=settings]", async () => {
      await page.getByText("Restore its settings").waitFor();
      await page.getByText("Use as initial image").waitFor();
      assert.deepEqual(await violationsOf(page), []);
    });
    const notice = page.locator("#notices");
    await notice.getByText(`The settings of ${basename(path)} are in the form.`).waitFor();
    assert.deepEqual(await violationsOf(page), []);
    const restored = { prompt: PROMPT, negative: "fog", seed: "-7", steps: "3", guidance: "2.5", size: "custom" };
    assert.deepEqual(await fields(page), restored);
    assert.equal(await page.getByLabel("Width").inputValue(), "128");
    assert.equal(await page.getByLabel("Height").inputValue(), "96");
    assert.ok(await page.getByRole("radio", { name: "PNG" }).isChecked());
    await generate(page);
    await images(page);
    assert.deepEqual(await shownFiles(page), [readFileSync(path)], "the same file, byte for byte");

    await notice.getByRole("button", { name: "Undo" }).click();
    assert.deepEqual(await fields(page), before);
    assert.equal(await notice.getByRole("button").count(), 0);
  });
}

pageTest("a file that the server wrote is chosen to restore its settings", {}, async (page) => {
  await page.goto(BASE);
  await small(page, PROMPT);
  await page.getByLabel("Seed", { exact: true }).fill("99");
  await page.getByRole("radio", { name: "PNG" }).check();
  await generate(page);
  await images(page);
  const [download] = await Promise.all([
    page.waitForEvent("download"),
    page.getByRole("link", { name: "Download image 1" }).click(),
  ]);
  const path = join(folder, download.suggestedFilename());
  await download.saveAs(path);
  await page.getByRole("button", { name: "Back to the defaults" }).click();
  await page.getByLabel("Prompt", { exact: true }).fill("");
  await page.locator("#settings-file").setInputFiles(path);
  await page.getByText("The settings of latentd-99.png are in the form.").waitFor();
  const { prompt, seed, steps } = await fields(page);
  assert.deepEqual({ prompt, seed, steps }, { prompt: PROMPT, seed: "99", steps: "4" });
  await page.locator("#notices").getByRole("button", { name: "Use as initial image" }).click();
  await page.locator("#initial").getByText("latentd-99.png · 128 × 96").waitFor();
});

/** An XMP packet as the server writes it into JPEG and WebP files. */
const XMP =
  `<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>\n<x:xmpmeta xmlns:x="adobe:ns:meta/">\n` +
  `<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">\n` +
  `<rdf:Description rdf:about="" xmlns:latentd="urn:latentd:settings#">\n` +
  `<latentd:prompt>a &lt;red&gt; house &amp; 庭&#13;</latentd:prompt>\n<latentd:negative_prompt></latentd:negative_prompt>\n` +
  `<latentd:seed>18446744073709551615</latentd:seed>\n<latentd:steps>5</latentd:steps>\n` +
  `<latentd:guidance>4</latentd:guidance>\n<latentd:model>mini</latentd:model>\n` +
  `<latentd:Software>latentd 0.1.0</latentd:Software>\n</rdf:Description>\n` +
  `</rdf:RDF>\n</x:xmpmeta>\n<?xpacket end="r"?>`;

/** A JPEG of one pixel with the packet in an APP1 segment after its JFIF header. */
function jpegWith(jpeg, packet) {
  const content = Buffer.concat([Buffer.from("http://ns.adobe.com/xap/1.0/\0"), Buffer.from(packet)]);
  const head = Buffer.from([0xff, 0xe1, 0, 0]);
  head.writeUInt16BE(content.length + 2, 2);
  const at = 4 + jpeg.readUInt16BE(4);
  return Buffer.concat([jpeg.subarray(0, at), head, content, jpeg.subarray(at)]);
}

/** The WebP file in the extended format, with the packet after the image. */
function webpWith(webp, packet) {
  const chunk = (name, content) => {
    const head = Buffer.alloc(8);
    head.write(name, "latin1");
    head.writeUInt32LE(content.length, 4);
    return Buffer.concat([head, content, Buffer.alloc(content.length % 2)]);
  };
  // Flags, and width and height less one.
  const header = Buffer.from([4, 0, 0, 0, 7, 0, 0, 7, 0, 0]);
  const isExtended = webp.subarray(12, 16).toString() === "VP8X";
  const image = webp.subarray(isExtended ? 30 : 12);
  return chunk("RIFF", Buffer.concat([Buffer.from("WEBP"), chunk("VP8X", header), image, chunk("XMP ", Buffer.from(packet))]));
}

for (const type of ["jpeg", "webp"]) {
  pageTest(`the settings in the XMP of a ${type} are restored, and a file without any is said to have none`, {}, async (page) => {
    await page.goto(BASE);
    const encoded = await page.evaluate(async (kind) => {
      const canvas = new OffscreenCanvas(8, 8);
      canvas.getContext("2d", { alpha: false }).fillRect(0, 0, 8, 8);
      return [...new Uint8Array(await (await canvas.convertToBlob({ type: `image/${kind}` })).arrayBuffer())];
    }, type);
    const plain = Buffer.from(encoded);
    const buffer = type === "jpeg" ? jpegWith(plain, XMP) : webpWith(plain, XMP);
    const file = { name: `house.${type}`, mimeType: `image/${type}`, buffer };
    await page.locator("#settings-file").setInputFiles(file);
    await page.getByText(`The settings of house.${type} are in the form.`).waitFor();
    const { seed, steps, prompt } = await fields(page);
    // Of a seed with more digits than a number has the low 32 bits are kept, on which the image depends.
    assert.deepEqual({ seed, steps, prompt }, { seed: "4294967295", steps: "5", prompt: "a <red> house & 庭\n" });
    assert.equal(await page.getByLabel("Width").inputValue(), "8");

    await page.locator("#settings-file").setInputFiles({ ...file, name: "plain", buffer: plain });
    await page.getByText("plain carries no settings of latentd.").waitFor();
    await page.locator("#notices div").last().getByRole("button", { name: "Use as initial image" }).click();
    await page.locator("#initial").getByText("plain · 8 × 8").waitFor();
  });
}

pageTest("a file with the prompt of another program is said to have none of latentd's", {}, async (page) => {
  await page.goto(BASE);
  const text = Buffer.from('prompt\0{"3": {"class_type": "KSampler"}}', "latin1");
  const length = Buffer.alloc(4);
  length.writeUInt32BE(text.length);
  const signature = Buffer.from([0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]);
  const buffer = Buffer.concat([signature, length, Buffer.from("tEXt"), text, Buffer.alloc(4)]);
  await page.locator("#settings-file").setInputFiles({ name: "comfy.png", mimeType: "image/png", buffer });
  await page.getByText("comfy.png carries no settings of latentd.").waitFor();
});
