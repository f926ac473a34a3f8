import { h } from "../dom/dom.js";

const ADVICE = {
  context_length_exceeded: "Delete messages, or start a new chat.",
  connection_lost: "Continue it, or try again.",
};

/** Return a box with an error in the server's words. buttons: elements below. */
export function errorBox({ message, code, status, param, retryAfter }, ...buttons) {
  const facts = [status && `HTTP ${status}`, code, param, retryAfter && `retry after ${retryAfter}\u00a0s`].filter(Boolean);
  return h("div", { class: "error", role: "group", "aria-label": "Error" },
    h("p", {}, message), ADVICE[code] && h("p", {}, ADVICE[code]), facts.length > 0 && h("p", { class: "facts" }, facts.join(" · ")), ...buttons);
}

/** Return what to keep of an error: plain values. */
export function plainError({ message, code = "", status = 0, param = "", retryAfter = 0 }) {
  return { message, code, status, param, retryAfter };
}
