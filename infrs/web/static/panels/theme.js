// The theme: the system's, light or dark. early.js applies it before the first paint.

import { preference, setPreference } from "../data/preferences.js";
import { byId, icon } from "../dom/dom.js";

const THEMES = ["auto", "light", "dark"];
const NAMES = { auto: "the system's", light: "light", dark: "dark" };

/** Connect the button that changes the theme. */
export function startTheme() {
  const button = byId("theme");

  function apply(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.replaceChildren(icon(theme));
    const label = `Theme: ${NAMES[theme]}`;
    button.title = label;
    button.setAttribute("aria-label", label);
  }

  const current = () => (THEMES.includes(preference("theme", "")) ? preference("theme", "") : "auto");
  button.addEventListener("click", () => {
    setPreference("theme", THEMES[(THEMES.indexOf(current()) + 1) % THEMES.length]);
    apply(current());
  });
  apply(current());
}
