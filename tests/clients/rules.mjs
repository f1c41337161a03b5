// Rules that every response of the server must obey. Checked after each test, on all of its calls.

const SUBMIT = /^\/queue\/(?!.*\/requests\/)/;
// Paths of OpenAI's API, whose errors have its form.
const OPENAI = /^\/v1\/(?!models\/requests\/)/;
const STATUS = /\/requests\/[^/?]+\/status\/?(\?|$)/;

/** The rules that a call's response violates, as messages; none for an incomplete response. */
export function violations({ method, url, status, answer_headers: headers, answer, answer_bytes: bytes }) {
  if (!headers || bytes === undefined) return [];
  const found = [];
  const check = (condition, message) => condition || found.push(`${method} ${url} → ${status}: ${message}`);
  check(headers["x-fal-request-id"], "no x-fal-request-id");
  check(headers["access-control-allow-origin"] === "*", "no access-control-allow-origin: *");
  const body = /^application\/json/.test(headers["content-type"] ?? "") ? parsed(answer) : undefined;
  if (status >= 400 && OPENAI.test(url)) check(body?.error?.message && body.error.type, "an error without a message or type");
  else if (status >= 400) check(body?.detail || body?.status, "an error without a detail or status");
  if (status < 300 && method === "POST" && SUBMIT.test(url)) checkSubmit(status, body ?? {}, check);
  if (status < 300 && method === "GET" && STATUS.test(url)) checkStatus(status, body ?? {}, headers, check);
  return found;
}

function checkSubmit(status, body, check) {
  check(status === 200 && body.status === "IN_QUEUE" && body.request_id, "not a submit's response");
  checkUrls(body, check);
}

function checkStatus(status, body, headers, check) {
  const known = { IN_QUEUE: 202, IN_PROGRESS: 202, COMPLETED: 200 };
  check(known[body.status] === status, `${body.status} has another status code`);
  check(Array.isArray(body.logs), "logs is no list");
  check(body.metrics && body.request_id === headers["x-fal-request-id"], "no metrics, or another request");
  check((body.status === "IN_QUEUE") === Number.isInteger(body.queue_position), "queue_position");
  checkUrls(body, check);
}

/** Clients use these URLs unchanged. */
function checkUrls(body, check) {
  for (const name of ["response_url", "status_url", "cancel_url"]) {
    check(/^https?:\/\/[^/]+\/.*\/requests\//.test(body[name]), `${name} is ${body[name]}`);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
