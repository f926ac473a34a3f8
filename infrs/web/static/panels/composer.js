// The message box. Enter sends, Shift+Enter starts a line.

import { byId, icon } from "../dom/dom.js";

/** Connect the message box to the chat. */
export function startComposer(chat) {
  const [field, button] = [byId("prompt"), byId("send")];

  function show() {
    const isRunning = Boolean(chat.active);
    button.setAttribute("aria-label", isRunning ? "Stop" : "Send");
    button.title = isRunning ? "Stop (Esc)" : "Send (Enter)";
    button.classList.toggle("stop", isRunning);
    button.disabled = !isRunning && !field.value.trim();
    if (button.dataset.icon !== String(isRunning)) button.replaceChildren(icon(isRunning ? "stop" : "send"));
    button.dataset.icon = String(isRunning);
    if (button.disabled && button === document.activeElement) field.focus();
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }

  function send() {
    const text = field.value;
    if (chat.active || !text.trim()) return;
    field.value = "";
    show();
    chat.send(text.trim());
  }

  field.addEventListener("input", show);
  field.addEventListener("keydown", (event) => {
    // Enter also ends the composition of Chinese, Japanese or Korean characters.
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
  });
  byId("composer").addEventListener("submit", (event) => event.preventDefault());
  button.addEventListener("click", () => (chat.active ? chat.stop() : send()));
  for (const type of ["running", "thread"]) chat.addEventListener(type, show);
}
