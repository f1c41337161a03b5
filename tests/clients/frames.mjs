// Parses the frames of one direction of a web socket: kind, length and text of each.

const NAMES = { 0: "continuation", 1: "text", 2: "binary", 8: "close", 9: "ping", 10: "pong" };
const KEPT_BYTES = 4 * 1024;

/** Returns a function that takes the bytes in order; it calls `onFrame` with each frame. */
export function frames(onFrame) {
  let pending = Buffer.alloc(0);
  return (chunk) => {
    pending = Buffer.concat([pending, chunk]);
    for (let frame; (frame = first(pending)); pending = pending.subarray(frame.end)) onFrame(described(frame));
  };
}

/** The first frame, if it is complete. */
function first(bytes) {
  if (bytes.length < 2) return undefined;
  const short = bytes[1] & 0x7f;
  const masked = bytes[1] >= 0x80;
  const afterLength = { 126: 4, 127: 10 }[short] ?? 2;
  const start = afterLength + (masked ? 4 : 0);
  if (bytes.length < start) return undefined;
  const length = { 126: () => bytes.readUInt16BE(2), 127: () => Number(bytes.readBigUInt64BE(2)) }[short]?.() ?? short;
  const end = start + length;
  if (bytes.length < end) return undefined;
  const mask = masked ? bytes.subarray(afterLength, start) : Buffer.alloc(4);
  const payload = bytes.subarray(start, end).map((byte, at) => byte ^ mask[at % 4]);
  return { kind: NAMES[bytes[0] & 0x0f], payload, end };
}

/** Kind, length and text of a frame; binary payloads are read as Latin-1. */
function described({ kind, payload }) {
  const bytes = payload.length;
  if (kind === "close") return { kind, bytes, code: bytes ? payload.readUInt16BE(0) : 1005, text: String(payload.subarray(2)) };
  return { kind, bytes, text: payload.subarray(0, KEPT_BYTES).toString(kind === "text" ? "utf8" : "latin1") };
}
