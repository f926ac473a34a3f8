// Small choices of the user, in localStorage: the theme, the last model and options, the open panels.

import { local } from "./storage.js";

const PREFIX = "infrs-";

/** Return a kept value, or `fallback`. */
export function preference(name, fallback) {
  try {
    return JSON.parse(local.get(PREFIX + name)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Keep a value that JSON can hold. */
export function setPreference(name, value) {
  local.set(PREFIX + name, JSON.stringify(value));
}
