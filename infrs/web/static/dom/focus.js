// The focus stays where it was when a part of the page is drawn again: on the same button of the new part, else in the
// message box.

import { byId } from "./dom.js";

const FINE = matchMedia("(pointer: fine)"); // on a phone the message box would open the keyboard
let last = null; // { element, id, label }

/** Keep the focus through the events of the chat that draw. Call it after the parts that draw have started. */
export function keepFocus(chat) {
  document.addEventListener("focusin", ({ target: element }) => {
    last = { element, id: element.closest("[data-id]")?.dataset.id, label: labelOf(element) };
  });
  document.addEventListener("pointerdown", () => (last = null));
  for (const type of ["list", "thread", "running"]) chat.addEventListener(type, restoreFocus);
}

/** Give back the focus if its element is gone. */
export function restoreFocus() {
  if (!last || last.element.isConnected) return;
  const twin = twinOf(last);
  if (twin) twin.focus();
  else if (FINE.matches) byId("prompt").focus();
}

function twinOf({ id, label }) {
  if (!id) return null;
  const buttons = [...document.querySelectorAll(`[data-id="${id}"] button`)];
  return buttons.find((button) => labelOf(button) === label) ?? buttons.find((button) => "focus" in button.dataset);
}

const labelOf = (element) => element.getAttribute("aria-label") ?? element.textContent;
