// Numbers that are typed into fields.

import { $ } from "./dom.js";

/** A number as it is typed: `null` for nothing, text for what is no number, so that somebody can say so. */
export function number(id) {
  const typed = $(id).value.trim().replace(",", ".");
  if (typed === "") return null;
  return Number.isNaN(Number(typed)) ? typed : Number(typed);
}

/** What is wrong with a number; `null` where nothing is. */
export function wrong(value, { min, max, whole }, mayBeEmpty = false) {
  if (value === null) return mayBeEmpty ? null : `A number from ${min} to ${max}.`;
  if (typeof value !== "number" || (whole && !Number.isInteger(value))) {
    return whole ? "A whole number, please." : "A number, please.";
  }
  return value < min || value > max ? `A number from ${min} to ${max}.` : null;
}
