// Deleting requests: they leave the page at once, with a way back, and are erased on the server when that has passed.

import * as api from "./api.js";
import * as keyDialog from "./key-dialog.js";
import * as notice from "./notice.js";
import * as session from "./session.js";

/** A key that may not erase on the server still clears this browser. */
const NOT_ERASED = "Removed from this browser alone: on the server only the key of an administrator deletes.";

/** Requests that are deleted here and not yet on the server. They are kept with a mark, so that a closed page loses none. */
const marked = () => session.all().filter(({ deleted }) => deleted);

/** Finishes what an earlier visit deleted; what is deleted now is also erased when the page is closed. */
export function start() {
  addEventListener("pagehide", () => marked().forEach(({ id }) => api.erase(id, { keepalive: true }).catch(() => {})));
  addEventListener("pageshow", ({ persisted }) => persisted && erase(marked()));
  return erase(marked());
}

/** Deletes requests, unless somebody takes it back in time. */
export async function remove(entries) {
  const before = session.shown();
  const kept = mark(entries, true);
  if (entries.includes(before)) session.show(null);
  await kept;
  const what = entries.length === 1 ? "Deleted." : `${entries.length} deleted.`;
  const undo = () => {
    mark(entries, false);
    if (entries.includes(before) && !session.shown()) session.show(before);
  };
  notice.show(what, [["Undo", undo]], () => erase(entries));
}

async function mark(entries, deleted) {
  for (const entry of entries) entry.deleted = deleted;
  session.changed();
  for (const entry of entries) await session.keep(entry);
}

/** Erases requests on the server and in this browser. Those that cannot be erased now come back. */
async function erase(entries) {
  const [erased, failed] = [[], []];
  let words = "";
  for (const entry of entries) {
    const error = await refusal(entry);
    if (error?.status === 403) words = NOT_ERASED;
    if (!error || error.status === 404 || error.status === 403) erased.push(entry);
    else {
      failed.push(entry);
      words = `${failed.length} could not be deleted: ${error.message}`;
    }
  }
  await session.forget(erased);
  if (failed.length > 0) await mark(failed, false);
  if (words) notice.show(words, failed.length > 0 ? [["Try again", () => remove(failed)]] : []);
}

/** Erases a request on the server; returns the error where that fails. */
async function refusal(entry) {
  try {
    await api.erase(entry.id);
    return null;
  } catch (error) {
    if (error.status === 401 && (await keyDialog.ask(api.key.get() !== ""))) return refusal(entry);
    return error;
  }
}
