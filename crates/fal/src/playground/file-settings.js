// The settings that latentd writes into image files: text chunks of a PNG, XMP in JPEG and WebP.

/** An XMP packet is in one segment or chunk, before which its format is named. */
const JPEG_XMP = "http://ns.adobe.com/xap/1.0/\0";

/** The values in a file by their keywords, empty where there are none. */
export async function settingsOf(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const begins = (...codes) => codes.every((code, at) => bytes[at] === code);
  if (begins(0x89, 0x50, 0x4e, 0x47)) return ofPng(bytes);
  if (begins(0xff, 0xd8)) return ofXmp(jpegXmp(bytes));
  if (begins(0x52, 0x49, 0x46, 0x46)) return ofXmp(webpXmp(bytes));
  return {};
}

function ofPng(bytes) {
  const values = {};
  for (const [name, content] of chunks(bytes, 8, false)) {
    if (name === "tEXt" || name === "iTXt") Object.assign(values, textChunk(name, content));
  }
  return values;
}

/** Keyword and text; one that is compressed is not latentd's. */
function textChunk(name, content) {
  const end = content.indexOf(0);
  const keyword = latin1(content.subarray(0, end));
  if (name === "tEXt") return { [keyword]: latin1(content.subarray(end + 1)) };
  if (content[end + 1] !== 0) return {};
  const language = content.indexOf(0, end + 3);
  const translated = content.indexOf(0, language + 1);
  return { [keyword]: utf8(content.subarray(translated + 1)) };
}

function jpegXmp(bytes) {
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; ) {
    const end = at + 2 + bytes[at + 2] * 256 + bytes[at + 3];
    const segment = bytes.subarray(at + 4, end);
    if (bytes[at + 1] === 0xe1 && latin1(segment.subarray(0, JPEG_XMP.length)) === JPEG_XMP) {
      return utf8(segment.subarray(JPEG_XMP.length));
    }
    at = end;
  }
  return "";
}

function webpXmp(bytes) {
  for (const [name, content] of chunks(bytes, 12, true)) if (name === "XMP ") return utf8(content);
  return "";
}

/** The chunks of a PNG (length, name, content, checksum) or of a RIFF file (name, length, content to an even length). */
function* chunks(bytes, from, isRiff) {
  const view = new DataView(bytes.buffer);
  for (let at = from; at + 8 <= bytes.length; ) {
    const length = view.getUint32(at + (isRiff ? 4 : 0), isRiff);
    yield [latin1(bytes.subarray(at + (isRiff ? 0 : 4)).subarray(0, 4)), bytes.subarray(at + 8, at + 8 + length)];
    at += isRiff ? 8 + length + (length % 2) : 12 + length;
  }
}

/** Each value is an element of latentd's namespace. */
function ofXmp(packet) {
  const elements = packet.matchAll(/<latentd:(\w+)>([^<]*)<\/latentd:\1>/g);
  return Object.fromEntries([...elements].map(([, keyword, value]) => [keyword, unescaped(value)]));
}

function unescaped(xml) {
  const named = { amp: "&", lt: "<", gt: ">", quot: '"', apos: "'" };
  return xml.replace(/&(?:#(\d+)|(\w+));/g, (whole, code, name) => (code ? String.fromCodePoint(code) : (named[name] ?? whole)));
}

const latin1 = (bytes) => new TextDecoder("latin1").decode(bytes);
const utf8 = (bytes) => new TextDecoder().decode(bytes);
