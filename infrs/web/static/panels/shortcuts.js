// Keys for the whole page. index.html lists them for the user.

import { byId } from "../dom/dom.js";

/** Listen for the shortcuts. actions: their functions by name. */
export function startShortcuts(actions) {
  document.addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const action = actionOf(event);
    if (!action) return;
    event.preventDefault();
    actions[action]();
  });
}

function actionOf(event) {
  const isTyping = event.target.matches("textarea, input, select");
  const isControl = (event.ctrlKey || event.metaKey) && event.shiftKey;
  if (event.key === "Escape") return "stop";
  if (isControl) return { o: "create", s: "sidebar", e: "settings" }[event.key.toLowerCase()];
  if (isTyping || event.ctrlKey || event.metaKey || event.altKey) return undefined;
  return { "/": "prompt", "?": "shortcuts" }[event.key];
}

/** Put the cursor into the message box. */
export const focusPrompt = () => byId("prompt").focus();
