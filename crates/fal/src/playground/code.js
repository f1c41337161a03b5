// Programs that ask for the image of the present settings: JavaScript, Python and curl.

const PROXY = "api/fal/proxy";
/** Invisible characters that would change how a program reads, or how a reader sees it. */
const INVISIBLE = /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]/g;

export const LANGUAGES = { javascript: "JavaScript", python: "Python", curl: "curl" };

/** What a program needs besides itself. */
export const HINTS = {
  javascript: "npm install @fal-ai/client, version 1.10 or newer",
  python: "pip install fal-client",
  curl: "Any shell with curl",
};

/** The program's text. `base` is the server's address with a slash at its end. */
export function program(language, { base, endpoint, input, needsKey }) {
  return { javascript, python, curl }[language]({ base, endpoint, input, needsKey });
}

function javascript({ base, endpoint, input, needsKey }) {
  const credentials = needsKey ? "process.env.FAL_KEY" : `"local:key"`;
  return `import { fal } from "@fal-ai/client";

fal.config({
  credentials: ${credentials},
  proxyUrl: { url: ${text(base + PROXY)}, when: "always" },
});

const { data } = await fal.subscribe(${text(endpoint)}, {
  input: ${indent(literal(input, JSON_WORDS, bareName), 2)},
});
for (const image of data.images) console.log(image.url);
`;
}

function python({ base, endpoint, input, needsKey }) {
  const key = needsKey ? "" : `import os\nos.environ.setdefault("FAL_KEY", "local:key")\n\n`;
  return `${key}import fal_client
import fal_client.client as C

B = ${text(base.replace(/\/$/, ""))}
C.RUN_URL_FORMAT = B + "/"
C.QUEUE_URL_FORMAT = B + "/queue/"
C.REALTIME_URL_FORMAT = B.replace("http", "ws", 1) + "/"
C.REST_URL = C.CDN_URL = B

result = fal_client.subscribe(
    ${text(endpoint)},
    arguments=${indent(literal(input, PYTHON_WORDS, text, 4), 4)},
)
for image in result["images"]:
    print(image["url"])
`;
}

function curl({ base, endpoint, input, needsKey }) {
  const key = needsKey ? ` \\\n  -H "Authorization: Key $FAL_KEY"` : "";
  return `curl -sS ${quoted(`${base}run/${endpoint}`)} \\
  -H 'Content-Type: application/json'${key} \\
  -d ${quoted(literal(input, JSON_WORDS, text))}
`;
}

const JSON_WORDS = { true: "true", false: "false", null: "null" };
const PYTHON_WORDS = { true: "True", false: "False", null: "None" };

/** A value as source text; `words` are the language's, `name` writes the name of a field. */
function literal(value, words, name, step = 2) {
  // A field of numbers that is empty is null.
  if (typeof value === "boolean" || value === null) return words[value];
  if (typeof value === "number") return String(value);
  if (typeof value === "string") return text(value);
  if (Array.isArray(value)) return list(value, words, name, step);
  const fields = Object.entries(value).map(([field, inner]) => `${name(field)}: ${literal(inner, words, name, step)}`);
  const line = `{ ${fields.join(", ")} }`;
  if (line.length <= 60 && Object.values(value).every((inner) => typeof inner === "number")) return line;
  const pad = " ".repeat(step);
  const comma = words === JSON_WORDS && name === text ? "" : ",";
  return `{\n${fields.map((field) => pad + indent(field, step)).join(",\n")}${comma}\n}`;
}

function list(values, words, name, step) {
  return `[${values.map((value) => literal(value, words, name, step)).join(", ")}]`;
}

/** A string literal that JavaScript, Python and JSON read alike. */
function text(string) {
  return JSON.stringify(string).replace(INVISIBLE, (character) => {
    return `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

function bareName(name) {
  return /^[a-z_]\w*$/i.test(name) ? name : text(name);
}

/** One word of a POSIX shell. */
function quoted(string) {
  return `'${string.replaceAll("'", `'\\''`)}'`;
}

function indent(block, spaces) {
  return block.replaceAll("\n", `\n${" ".repeat(spaces)}`);
}
