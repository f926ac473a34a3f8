// A panel at the side. On a narrow window it lies over the page and closes with Escape or a click outside.

import { preference, setPreference } from "../data/preferences.js";
import { byId } from "./dom.js";

const NARROW = matchMedia("(max-width: 60rem)");

/** Connect a panel to the button that opens it. isOpen: whether it is open at first on a wide window. */
export function startPanel(id, buttonId, isOpen) {
  const [panel, button] = [byId(id), byId(buttonId)];

  function set(open) {
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    byId("shade").hidden = !NARROW.matches || ["sidebar", "settings"].every((each) => byId(each).hidden);
    if (!NARROW.matches) setPreference(`open-${id}`, open);
  }

  function close() {
    if (panel.hidden) return;
    set(false);
    button.focus();
  }

  const closeIfOver = () => NARROW.matches && set(false);
  button.addEventListener("click", () => set(panel.hidden));
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !NARROW.matches) return;
    event.stopPropagation();
    close();
  });
  panel.querySelector("[data-close]").addEventListener("click", close);
  byId("shade").addEventListener("click", closeIfOver);
  NARROW.addEventListener("change", () => set(!NARROW.matches && preference(`open-${id}`, isOpen)));
  set(!NARROW.matches && preference(`open-${id}`, isOpen));
  return { closeIfOver, toggle: () => set(panel.hidden) };
}
