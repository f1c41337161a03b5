// Tables whose rows come and go: a row stays in place, with the focus in it, for as long as its item is there.

import { make } from "./dom.js";

/**
 * Makes the rows of a table those of `items`. `describe(item)` returns the row's `id`, its `cells` (texts or elements, an
 * element only when the row is made) and its `tone`; `action(item)` the button in its last cell, or `null`.
 */
export function fill(table, items, describe, action) {
  const [body] = table.tBodies;
  const labels = [...table.tHead.rows[0].cells].map((cell) => cell.textContent);
  const before = new Map([...body.rows].map((row) => [row.dataset.id, row]));
  const rows = items.map((item) => {
    const { id, cells, tone = "" } = describe(item);
    const row = before.get(id) ?? made(id, labels);
    before.delete(id);
    row.dataset.tone = tone;
    cells.forEach((content, at) => write(row.cells[at], content));
    if (action) act(row.cells[cells.length], item, action);
    return row;
  });
  for (const row of before.values()) row.remove();
  rows.forEach((row, at) => {
    if (body.rows[at] !== row) body.insertBefore(row, body.rows[at] ?? null);
  });
}

function made(id, labels) {
  const cells = labels.map((label) => make("td", { "data-label": label }));
  return make("tr", { "data-id": id }, ...cells);
}

function write(cell, content) {
  if (content instanceof Node) {
    if (!cell.hasChildNodes()) cell.append(content);
  } else if (cell.textContent !== content) {
    cell.textContent = content;
  }
}

/** Keeps the button that is there, unless the item has none any more. */
function act(cell, item, action) {
  const button = action(item);
  if (!button) cell.replaceChildren();
  else if (!cell.hasChildNodes()) cell.append(button);
}
