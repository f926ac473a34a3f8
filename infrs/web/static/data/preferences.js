// Small choices of the user, in localStorage: the theme, the last model and options, the open panels.

const PREFIX = "infrs-";

/** Return a kept value, or `fallback`. */
export function preference(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name)) ?? fallback;
  } catch {
    return fallback;
  }
}

/** Keep a value that JSON can hold. */
export function setPreference(name, value) {
  localStorage.setItem(PREFIX + name, JSON.stringify(value));
}
