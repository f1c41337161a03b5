// An image that a field of the form has: a file that is uploaded to the server's storage, or one that is there already.

import * as api from "./api.js";
import * as keyDialog from "./key-dialog.js";

/**
 * The image of a field, which `preview` shows where the browser can. `changed` is called when there is another image, and
 * when more is known of it; `refused(text)` when one cannot be uploaded.
 */
export function imageField(preview, changed, refused) {
  /** `{ url, name, width, height }`, without a URL while it is uploaded; `null` where there is none. */
  let image = null;
  /** The upload in progress. */
  let upload = Promise.resolve();

  /** Shows another image, and learns its size where the browser can decode it. */
  function replace(next, source) {
    URL.revokeObjectURL(preview.src);
    image = next;
    preview.hidden = !source;
    if (source) {
      preview.src = source;
      preview.decode().then(measured, undecoded);
    } else {
      preview.removeAttribute("src");
    }
    changed();

    function measured() {
      if (image !== next) return;
      [next.width, next.height] = [preview.naturalWidth, preview.naturalHeight];
      changed();
    }

    // The server reads more formats than a browser shows.
    function undecoded() {
      if (image === next) preview.hidden = true;
    }
  }

  async function send(chosen, blob) {
    try {
      const url = await api.upload(blob);
      if (image !== chosen) return;
      image.url = url;
      changed();
    } catch (error) {
      if (image !== chosen) return;
      if (error.status === 401 && (await keyDialog.ask(api.key.get() !== ""))) return send(chosen, blob);
      replace(null);
      refused(`It could not be uploaded: ${error.message}`);
    }
  }

  return {
    get: () => image,
    /** Resolves when nothing is being uploaded. */
    ready: () => upload,
    clear: () => replace(null),
    /** Uploads a file and uses it; `name` is for people. */
    useFile(blob, name) {
      const chosen = { name };
      replace(chosen, URL.createObjectURL(blob));
      upload = send(chosen, blob);
    },
    /** Uses an image that has a URL, or none. */
    useUrl(url, name) {
      if (url === (image?.url ?? null)) return;
      const own = url && api.imageUrl(url);
      replace(url ? { url, name } : null, own?.startsWith(api.BASE) ? own : "");
    },
  };
}
