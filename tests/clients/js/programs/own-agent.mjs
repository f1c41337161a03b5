// A program that brings its own agent, as HTTP packages do: it hears of no proxy on any version of Node.

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
const picture = await call(images[0].url, "GET");
console.log(JSON.stringify({ status: ran.status, url: images[0].url, bytes: picture.body.length }));
agent.destroy();
