// Removes the delays of @fal-ai/client between retries; the retries themselves stay.

import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const utils = require(require.resolve("@fal-ai/client").replace(/index\.js$/, "utils.js"));

/** Runs `job` without delays between retries. Returns the job's value. */
export async function withoutWaits(job) {
  const wait = utils.sleep;
  utils.sleep = async () => {};
  try {
    return await job();
  } finally {
    utils.sleep = wait;
  }
}
