// Helpers for the DOM.

export const $ = (id) => document.getElementById(id);

/** An element with properties and children; strings become text, never markup. */
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element) element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A row of radio buttons that looks like one control. */
export function choice(container, name, options) {
  for (const [value, label] of options) {
    const input = make("input", { type: "radio", name, value });
    container.append(make("label", {}, input, make("span", {}, label)));
  }
  return {
    get: () => container.querySelector("input:checked")?.value,
    set(value) {
      const input = container.querySelector(`input[value="${CSS.escape(value)}"]`);
      if (input) input.checked = true;
    },
  };
}

/** A button of a row of actions. */
export function button(label, onclick, properties = {}) {
  return make("button", { type: "button", className: "quiet", onclick, ...properties }, label);
}

/** Calls `use` with each file that is chosen in a file field, the same one again too. */
export function onFile(field, use) {
  field.addEventListener("change", () => {
    const [file] = field.files;
    field.value = "";
    if (file) use(file);
  });
}
