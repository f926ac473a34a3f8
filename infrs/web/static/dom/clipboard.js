import { announce } from "./announce.js";
import { h, icon, iconButton } from "./dom.js";

/** Return a button that copies the text that `read` returns. */
export function copyButton(label, read) {
  const button = iconButton("copy", label, async () => {
    await copy(read());
    announce("Copied");
    button.replaceChildren(icon("check"));
    setTimeout(() => button.replaceChildren(icon("copy")), 1500);
  });
  return button;
}

async function copy(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Browsers have no clipboard API on pages without HTTPS, such as a server in a local network.
  const area = h("textarea", { class: "visually-hidden", "aria-hidden": "true" });
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}
