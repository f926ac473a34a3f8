// What screen readers say, and short notices. The messages themselves are not live: each token would be read.

import { byId, h } from "./dom.js";

const LONGEST = 600;
const NOTICE_SECONDS = 8;

/** Have screen readers say a text when they are idle. */
export function announce(text) {
  byId("announcer").textContent = text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

/** Show a notice for some seconds. action: { label, run } of its button. */
export function notify(text, action) {
  const close = () => notice.remove();
  const run = () => (close(), action.run());
  const notice = h("div", { class: "notice" }, h("span", {}, text),
    action && h("button", { type: "button", class: "link", onclick: run }, action.label));
  byId("notices").replaceChildren(notice);
  const closeLater = () => setTimeout(() => (notice.matches(":hover, :focus-within") ? closeLater() : close()), NOTICE_SECONDS * 1000);
  closeLater();
}
