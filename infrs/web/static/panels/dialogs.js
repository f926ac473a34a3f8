// The dialogs: the API key, and the list of shortcuts. <dialog> keeps the focus inside and closes with Escape.

import { isRemembered, keepKey, readKey } from "../net/key.js";
import { byId } from "../dom/dom.js";

/** Connect the dialog of the key. onkey: called after the key changed. Return a function that asks, with a reason. */
export function startKeyDialog(onkey) {
  const [dialog, field, remember] = ["key-dialog", "key", "remember-key"].map(byId);

  function ask(reason = "") {
    if (dialog.open) return;
    byId("key-reason").textContent = reason;
    field.value = readKey();
    remember.checked = isRemembered();
    dialog.showModal();
    field.select();
  }

  function keep(event) {
    event.preventDefault();
    keepKey(field.value.trim(), remember.checked);
    dialog.close();
    onkey();
  }

  byId("key-form").addEventListener("submit", keep);
  byId("forget-key").addEventListener("click", () => ((field.value = ""), keepKey("", false), dialog.close()));
  byId("change-key").addEventListener("click", () => ask());
  closeButtons(dialog);
  return ask;
}

/** Connect the dialog that lists the shortcuts. Return a function that shows it. */
export function startShortcutsDialog() {
  const dialog = byId("shortcuts-dialog");
  byId("shortcuts").addEventListener("click", () => dialog.showModal());
  closeButtons(dialog);
  return () => dialog.showModal();
}

function closeButtons(dialog) {
  for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
}
