// Runs the programs that the Code tab shows: each sends the request that the page would have sent.

import assert from "node:assert/strict";
import http from "node:http";
import { after } from "node:test";
import { BASE, pageTest, runProgram, small } from "./support.mjs";

const HARD_TO_QUOTE = [
  `a "red" house, it's 100% \\ \\n \\u0041 $HOME \`id\` $(id) !! & <b>; {x} %s #`,
  "new line,\ttab, näïve 日本 🦊 👩‍👩‍👧, separators \u2028\u2029, right-to-left \u202e, '''quotes''' \"\"\" end\\",
].join("\n");

/** A proxy for the server that records POST bodies. */
const posted = [];
const recorder = http.createServer(async (request, response) => {
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  if (request.method === "POST") posted.push(JSON.parse(Buffer.concat(chunks)));
  const { method, headers, url: path } = request;
  const forwarded = http.request(BASE + path, { method, headers }, (answer) => {
    response.writeHead(answer.statusCode, answer.headers);
    answer.pipe(response);
  });
  forwarded.end(Buffer.concat(chunks));
});
await new Promise((resolve) => recorder.listen(0, "127.0.0.1", resolve));
const origin = `http://127.0.0.1:${recorder.address().port}`;
after(() => {
  recorder.close();
  recorder.closeAllConnections();
});

for (const language of ["JavaScript", "Python", "curl"]) {
  pageTest(`the ${language} program sends exactly the current settings`, { origins: [origin], permissions: ["clipboard-read"] }, async (page) => {
    await page.goto(origin);
    await small(page, HARD_TO_QUOTE);
    await page.getByLabel("Negative prompt").fill(`it's "ugly" \\`);
    await page.getByLabel("Seed", { exact: true }).fill("7");
    await page.getByRole("radio", { name: "PNG" }).check();
    await page.getByLabel("Safety checker").uncheck();
    await page.getByRole("tab", { name: "Code" }).click();
    await page.getByRole("radio", { name: language }).check();
    await page.getByRole("button", { name: "Copy" }).click();
    await page.getByRole("button", { name: "Copied" }).waitFor();
    const program = await page.evaluate(() => navigator.clipboard.readText());

    posted.length = 0;
    const stdout = await runProgram(language, program);
    assert.deepEqual(posted, [
      {
        prompt: HARD_TO_QUOTE,
        negative_prompt: `it's "ugly" \\`,
        image_size: { width: 128, height: 96 },
        num_inference_steps: 4,
        seed: 7,
        output_format: "png",
        enable_safety_checker: false,
      },
    ]);
    const url = new RegExp(`${origin}/files/\\w+\\.png`).exec(stdout)?.[0];
    assert.equal((await fetch(url)).headers.get("content-type"), "image/png", stdout);
  });
}
