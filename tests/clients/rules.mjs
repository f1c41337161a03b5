// What holds of every answer, whatever was asked. Looked at after each test, on all of its calls.

const SUBMIT = /^\/queue\/(?!.*\/requests\/)/;
const STATUS = /\/requests\/[^/?]+\/status\/?(\?|$)/;

/** What is wrong with the answer to a call, in words; nothing of a call that the server did not answer to its end. */
export function broken({ method, url, status, answer_headers: headers, answer, answer_bytes: bytes }) {
  if (!headers || bytes === undefined) return [];
  const complaints = [];
  const holds = (fact, words) => fact || complaints.push(`${method} ${url} → ${status}: ${words}`);
  holds(headers["x-fal-request-id"], "no x-fal-request-id");
  holds(headers["access-control-allow-origin"] === "*", "closed to pages of other origins");
  const body = /^application\/json/.test(headers["content-type"] ?? "") ? parsed(answer) : undefined;
  if (status >= 400) holds(body?.detail || body?.status, "an error that is no object, or without a word");
  if (status < 300 && method === "POST" && SUBMIT.test(url)) submitted(status, body ?? {}, holds);
  if (status < 300 && method === "GET" && STATUS.test(url)) looked(status, body ?? {}, headers, holds);
  return complaints;
}

function submitted(status, body, holds) {
  holds(status === 200 && body.status === "IN_QUEUE" && body.request_id, "not a submit's answer");
  followable(body, holds);
}

function looked(status, body, headers, holds) {
  const known = { IN_QUEUE: 202, IN_PROGRESS: 202, COMPLETED: 200 };
  holds(known[body.status] === status, `${body.status} has another code`);
  holds(Array.isArray(body.logs), "logs is no list");
  holds(body.metrics && body.request_id === headers["x-fal-request-id"], "no metrics, or another request");
  holds((body.status === "IN_QUEUE") === Number.isInteger(body.queue_position), "queue_position");
  followable(body, holds);
}

/** Clients follow these URLs as they are. */
function followable(body, holds) {
  for (const name of ["response_url", "status_url", "cancel_url"]) {
    holds(/^https?:\/\/[^/]+\/.*\/requests\//.test(body[name]), `${name} is ${body[name]}`);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
