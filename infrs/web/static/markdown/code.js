import { copyButton } from "../dom/clipboard.js";
import { h } from "../dom/dom.js";

const LINES = 500; // of one piece: a browser lays out only the pieces in view

/** Return a block of code with its language and a button that copies it. */
export function codeBlock(text, language = "") {
  const code = h("pre", { tabindex: "0", role: "group", "aria-label": language ? `Code, ${language}` : "Code" }, h("code", {}, pieces(text)));
  const head = h("div", { class: "code-head" }, h("span", {}, language), copyButton("Copy code", () => text));
  return h("div", { class: "code" }, head, code);
}

/** Return a short text, or the pieces of a long one. */
function pieces(text) {
  const lines = text.split(/(?<=\n)/);
  if (lines.length <= LINES) return [text];
  const starts = Array.from({ length: Math.ceil(lines.length / LINES) }, (_, index) => index * LINES);
  return starts.map((start) => h("span", { class: "piece" }, lines.slice(start, start + LINES).join("")));
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
