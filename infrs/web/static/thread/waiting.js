import { h } from "../dom/dom.js";

const SILENT_SECONDS = 2; // most answers begin before

/** Return a line for an answer without text, which counts the seconds. isNeeded: whether the line still waits. */
export function waitingLine(isNeeded) {
  const text = h("span", { class: "visually-hidden" }, "Waiting for the first token");
  const line = h("p", { class: "waiting note" }, text);
  const started = performance.now();
  const timer = setInterval(() => {
    if (!isNeeded(line)) return clearInterval(timer);
    const seconds = Math.round((performance.now() - started) / 1000);
    if (seconds < SILENT_SECONDS) return;
    text.className = "";
    text.textContent = `Waiting for the first token, ${seconds} s`;
  }, 1000);
  return line;
}
