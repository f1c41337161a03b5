// The elements of a network's fields: a file, an image and numbers, in its fieldset.

import { $, make } from "./dom.js";

/** Fills the fieldset of a network, as `network` describes it. */
export function build(spec) {
  const { field, title, article, encoder } = spec;
  const label = make("legend", { id: `${field}-label` }, title);
  const inside = make("div", { id: field, className: "network", hidden: true }, fileRow(spec));
  if (encoder) inside.append(encoderRow(spec));
  inside.append(imageRow(spec), ...spec.rows.map((row) => numberRow(spec, row)));
  if (spec.hint) inside.append(make("p", { className: "hint", id: `${field}-hint` }, spec.hint));
  const add = make("button", { id: `${field}-add`, className: "quiet network-add", type: "button" }, `Add ${article} ${title}`);
  const more = make("p", { className: "initial-choice", id: `${field}-more` }, add);
  $(`${field}-field`).append(label, inside, more, make("p", { className: "problem", id: `problem-${field}` }));
}

function fileRow({ field, title }) {
  const path = make("input", { id: `${field}-path`, placeholder: "Name, URL, or owner/name on the hub", "aria-label": `${title} file`, "aria-describedby": `problem-${field}` });
  path.setAttribute("list", `${field}-names`);
  const remove = make("button", { id: `${field}-remove`, className: "quiet", type: "button", "aria-label": `Remove the ${title}` }, "Remove");
  const upload = fileInput({ id: `${field}-file`, accept: ".safetensors", "aria-labelledby": `${field}-label ${field}-choose` });
  const choose = make("label", { id: `${field}-choose`, className: "quiet", htmlFor: `${field}-file` }, "Upload a file");
  return make(
    "div",
    {},
    make("p", { className: "removable" }, path, remove),
    make("datalist", { id: `${field}-names` }),
    make("p", { className: "initial-choice" }, upload, choose),
  );
}

function encoderRow({ field, encoder }) {
  const id = `${field}-encoder`;
  const label = make("label", { className: "label", htmlFor: id }, encoder.label);
  const path = make("input", { id, placeholder: "owner/name on the hub", "aria-describedby": `${id}-hint problem-${field}` });
  return make("div", { id: `${id}-row` }, label, path, make("p", { className: "hint", id: `${id}-hint` }, encoder.hint));
}

function imageRow({ field, image: { id, label } }) {
  const noun = label.toLowerCase();
  const name = make("span", { className: "label", id: `${id}-label` }, label);
  const preview = make("img", { id: `${id}-preview`, alt: `The ${noun}`, hidden: true });
  const shown = make("p", { id: `${id}-name`, role: "status" });
  const file = fileInput({ id: `${id}-file`, accept: "image/*", "aria-labelledby": `${id}-label ${id}-choose`, "aria-describedby": `problem-${field}` });
  const url = make("input", { id: `${id}-url`, type: "url", placeholder: "Or its URL", "aria-label": `URL of the ${noun}`, "aria-describedby": `problem-${field}` });
  return make(
    "div",
    {},
    name,
    make("div", { className: "initial-image", id: `${id}-set`, hidden: true }, preview, shown),
    make(
      "p",
      { className: "initial-choice" },
      file,
      make("label", { id: `${id}-choose`, className: "quiet", htmlFor: `${id}-file` }, "Choose an image"),
      make("span", { id: `${id}-hint`, className: "hint" }, "or drop one, or paste it here"),
      make("button", { id: `${id}-clear`, className: "quiet", type: "button", "aria-label": `Clear the ${noun}` }, "Clear"),
    ),
    url,
  );
}

/** One number over the whole width, or a pair side by side, which the hint explains. */
function numberRow(spec, row) {
  if (row.length === 1) return numberField(spec, row[0], `problem-${spec.field}`);
  const fields = row.map((number) => numberField(spec, number, `${spec.field}-hint problem-${spec.field}`));
  return make("div", { className: "pair" }, ...fields);
}

function numberField({ title }, { id, label }, described) {
  const number = make("input", { id, inputMode: "decimal", "aria-describedby": described });
  const slider = make("input", { type: "range", "data-for": id, "aria-label": `${label} of the ${title}`, step: "0.05" });
  return make("div", {}, make("div", { className: "valued" }, make("label", { htmlFor: id }, label), number), slider);
}

const fileInput = (properties) => make("input", { type: "file", className: "unseen", ...properties });
