import { copyButton } from "./clipboard.js";
import { h } from "./dom.js";

/** Return a block of code with its language and a button that copies it. */
export function codeBlock(text, language = "") {
  const code = h("pre", { tabindex: "0", role: "region", "aria-label": language ? `Code, ${language}` : "Code" }, h("code", {}, text));
  const head = h("div", { class: "code-head" }, h("span", {}, language), copyButton("Copy code", () => text));
  return h("div", { class: "code" }, head, code);
}

/** Return a JSON text with indents; the text itself if it is not JSON. */
export function prettyJson(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text;
  }
}

/** Return whether a text looks like an object or an array in JSON, complete or not. */
export function isJson(text) {
  return /^\s*(?:\{\s*["}]|\[\s*(?:[{"[]|-?\d+\s*,))/.test(text);
}
