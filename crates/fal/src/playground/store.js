// The earlier requests of this browser and their thumbnails, in IndexedDB; the draft, in localStorage.

const DRAFT = "latentd.draft";
/** As many requests are kept, the newest, besides favourites. */
const MAX_ENTRIES = 500;
/** Images that no server keeps are here whole; together they may take so much. */
const MAX_INLINE_BYTES = 64 << 20;

let opened;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const asked = indexedDB.open("latentd", 1);
    asked.onupgradeneeded = () => asked.result.createObjectStore("requests", { keyPath: "id" });
    asked.onsuccess = () => resolve(asked.result);
    asked.onerror = () => reject(asked.error);
  });
  return opened;
}

async function run(mode, action) {
  const transaction = (await database()).transaction("requests", mode);
  const asked = action(transaction.objectStore("requests"));
  await new Promise((resolve, reject) => {
    transaction.oncomplete = resolve;
    transaction.onabort = transaction.onerror = () => reject(transaction.error);
  });
  return asked?.result;
}

/** All requests, the newest first. A browser that keeps nothing has none. */
export async function all() {
  try {
    return (await run("readonly", (store) => store.getAll())).sort((a, b) => b.at - a.at);
  } catch (error) {
    console.warn("latentd: earlier images cannot be read:", error);
    return [];
  }
}

/** Keeps a request as it is now; the oldest ones go when there are too many, and of those with images inside when these are too large. */
export async function put(entry) {
  try {
    const { live, ...kept } = entry;
    await run("readwrite", (store) => store.put(kept));
    const entries = await all();
    let bytes = 0;
    const excess = entries.filter((each, index) => {
      const inline = inlineBytes(each);
      bytes += inline;
      return !each.favourite && (index >= MAX_ENTRIES || (inline > 0 && bytes > MAX_INLINE_BYTES && index > 0));
    });
    await run("readwrite", (store) => void excess.forEach(({ id }) => store.delete(id)));
    return excess.map(({ id }) => id);
  } catch (error) {
    console.warn("latentd: the image cannot be kept in this browser:", error);
    return [];
  }
}

export async function remove(id) {
  await run("readwrite", (store) => store.delete(id)).catch(() => {});
}

function inlineBytes({ output }) {
  const urls = output?.images.map(({ url }) => url) ?? [];
  return urls.filter((url) => url.startsWith("data:")).reduce((sum, url) => sum + url.length, 0);
}

/** The draft, where the browser stores nothing: until the page is left. */
let unstored = null;

export const draft = {
  get() {
    try {
      return unstored ?? JSON.parse(localStorage.getItem(DRAFT));
    } catch {
      return null;
    }
  },
  set(input) {
    try {
      localStorage.setItem(DRAFT, JSON.stringify(input));
      unstored = null;
    } catch {
      unstored = input;
    }
  },
};
