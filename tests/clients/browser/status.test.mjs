// What the page says of the server and its model, and Escape.

import assert from "node:assert/strict";
import { BASE, ENDPOINT, generate, images, long, pageTest, phase, small, startServer } from "./support.mjs";

const leaving = await startServer();

pageTest("the header says at once that the server is gone, and that it is back", { refusals: true, origins: [leaving.origin] }, async (page) => {
  await page.goto(leaving.url);
  const header = page.getByRole("status").filter({ hasText: /Ready|reachable/ });
  await header.getByText("Ready").waitFor();
  await leaving.kill();
  const gone = Date.now();
  await header.getByText("Server not reachable").waitFor();
  const again = await startServer({ data: leaving.data, port: leaving.port });
  const back = Date.now();
  await header.getByText("Ready").waitFor();
  console.log(`gone was said after ${back - gone} ms or less, ready after ${Date.now() - back} ms`);
  await small(page);
  await generate(page);
  await images(page);

  // A call that gets no answer says it before the next question does.
  await page.route("**/health/ready", (route) => new Promise((resolve) => setTimeout(() => resolve(route.continue()), 500)));
  await again.kill();
  await page.getByRole("button", { name: /^Generate/ }).click();
  await header.getByText("Server not reachable").waitFor();
});

pageTest("the built-in model is named, says what it knows, and its prompts can be clicked", {}, async (page) => {
  await page.goto(BASE);
  await page.getByText("mini answers, the small built-in model for trying things out.").waitFor();
  await page.getByText("What it knows").click();
  const prompts = page.getByRole("list", { name: "Prompts to try" }).getByRole("button");
  const texts = await prompts.allTextContents();
  assert.ok(texts.length >= 5);
  await prompts.nth(3).click();
  assert.equal(await page.getByLabel("Prompt", { exact: true }).inputValue(), texts[3]);
  await page.getByText("Write a prompt, or start with one of these.").waitFor();

  // What the page says is what the server says, and each prompt is known to the model.
  const [note] = await notesOf("a cat in Paris");
  const known = note.split("knows only: ")[1];
  assert.equal(await page.locator("#knows-words").textContent(), `It was trained on drawn scenes alone: ${known}.`);
  for (const prompt of texts) assert.deepEqual(await notesOf(prompt), [], prompt);
});

/** The server's notes on a prompt. */
async function notesOf(prompt) {
  const input = { prompt, image_size: { width: 64, height: 64 }, num_inference_steps: 1 };
  const headers = { "content-type": "application/json" };
  const body = JSON.stringify(input);
  const submitted = await (await fetch(`${BASE}/queue/${ENDPOINT}`, { method: "POST", headers, body })).json();
  for (;;) {
    const status = await (await fetch(`${BASE}/queue/${ENDPOINT}/requests/${submitted.request_id}/status?logs=1`)).json();
    if (status.status === "COMPLETED") return status.logs.filter(({ level }) => level === "WARN").map(({ message }) => message);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

pageTest("Escape cancels what is being generated, but not from the search", {}, async (page) => {
  await page.goto(BASE);
  await long(page, "mountains", 4);
  await generate(page);
  await phase(page, "generating");
  await page.getByRole("tab", { name: "Gallery" }).click();
  await page.getByRole("searchbox").fill("hills");
  await page.keyboard.press("Escape");
  await page.getByRole("tab", { name: "Image" }).click();
  await phase(page, "generating");
  await page.getByLabel("Prompt", { exact: true }).focus();
  await page.keyboard.press("Escape");
  await phase(page, "failed");
  await page.locator("#words").getByText("Cancelled").waitFor();
  // Nothing runs now.
  await page.keyboard.press("Escape");
  assert.ok(await page.getByText("Nothing was kept.").isVisible());
});
