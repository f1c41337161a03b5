// undici's own DNS interceptor looks up names and connects to addresses, past what a preload can see.

import { Agent, interceptors, request } from "undici";

const [endpoint, body] = process.argv.slice(2);
const dispatcher = new Agent().compose(interceptors.dns());
const headers = { authorization: "Key of:mine", "content-type": "application/json" };
const ran = await request(`https://fal.run/${endpoint}`, { dispatcher, method: "POST", headers, body });
const { images } = await ran.body.json();
const picture = await request(images[0].url, { dispatcher });
if (picture.headers["content-type"] !== "image/jpeg") throw new Error(`no picture: ${picture.statusCode}`);
console.log("OK");
process.exit();
