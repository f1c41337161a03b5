// A program with its own `https.Agent`, as HTTP packages have: no version of Node applies the environment's proxy to it.

import { Agent, request } from "node:https";

const [endpoint, text] = process.argv.slice(2);
const agent = new Agent({ keepAlive: true });

function call(url, method, body) {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const sent = request(url, { agent, method, headers }, async (answer) => {
      const parts = [];
      for await (const part of answer) parts.push(part);
      resolve({ status: answer.statusCode, body: Buffer.concat(parts) });
    });
    sent.on("error", reject).end(body);
  });
}

const ran = await call(`https://fal.run/${endpoint}`, "POST", text);
const { images } = JSON.parse(ran.body);
const image = await call(images[0].url, "GET");
console.log(JSON.stringify({ status: ran.status, url: images[0].url, bytes: image.body.length }));
agent.destroy();
