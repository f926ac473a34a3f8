// A panel at the side. On a narrow window it lies over the page, which is inert then, and closes with a click outside.

import { preference, setPreference } from "../data/preferences.js";
import { byId } from "../dom/dom.js";

const NARROW = matchMedia("(max-width: 60rem)");
const panels = [];

/** Connect a panel to the button that opens it. isOpen: whether it is open at first on a wide window. */
export function startPanel(id, buttonId, isOpen) {
  const [panel, button] = [byId(id), byId(buttonId)];
  const set = (open) => {
    panel.hidden = !open;
    button.setAttribute("aria-expanded", String(open));
    cover();
  };
  const setFirst = () => set(!NARROW.matches && preference(`open-${id}`, isOpen));

  /** Open or close it as the user wishes. The focus goes into the panel, and back to the button. */
  function choose(open) {
    if (open && NARROW.matches) panels.forEach(({ set: close }) => close(false));
    set(open);
    if (!NARROW.matches) setPreference(`open-${id}`, open);
    if (open) [...panel.querySelectorAll("button, input, textarea")].find((control) => control.checkVisibility()).focus();
    else button.focus();
  }

  button.addEventListener("click", () => choose(panel.hidden));
  panel.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || (isOpen && !NARROW.matches)) return;
    event.stopPropagation();
    choose(false);
  });
  panel.querySelector("[data-close]").addEventListener("click", () => choose(false));
  byId("shade").addEventListener("click", () => !panel.hidden && choose(false));
  NARROW.addEventListener("change", setFirst);
  panels.push({ set, panel });
  setFirst();
  return { closeIfOver: () => NARROW.matches && choose(false), toggle: () => choose(panel.hidden) };
}

function cover() {
  const isCovered = NARROW.matches && panels.some(({ panel }) => !panel.hidden);
  byId("shade").hidden = !isCovered;
  byId("center").inert = isCovered;
}
