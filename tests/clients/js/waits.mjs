// The waits of @fal-ai/client between two tries, cut out: the tries stay its own.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const utils = require(require.resolve("@fal-ai/client").replace(/index\.js$/, "utils.js"));

/** Runs `job`; every wait between tries is over at once. Returns the job's value. */
export async function withoutWaits(job) {
  const wait = utils.sleep;
  utils.sleep = async () => {};
  try {
    return await job();
  } finally {
    utils.sleep = wait;
  }
}
