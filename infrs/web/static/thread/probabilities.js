// The tokens of an answer with their probabilities. A token that is chosen shows its alternatives.

import { h } from "../dom/dom.js";
import { percent, visible } from "./format.js";

const CLASSES = [0.9, 0.7, 0.5, 0.3, 0.1, 0];

/** Return the view of a list of tokens: [text, logprob, alternatives]. */
export function probabilityView(tokens) {
  const details = h("div", { class: "alternatives", "aria-live": "polite" }, h("p", { class: "hint" }, "Choose a token to see its alternatives. The arrow keys move."));
  const buttons = tokens.map((token, index) => tokenButton(token, index === 0, () => choose(index)));

  function choose(index) {
    buttons.forEach((button, other) => {
      button.setAttribute("aria-pressed", String(other === index));
      button.tabIndex = other === index ? 0 : -1;
    });
    details.replaceChildren(alternatives(tokens[index]));
    details.scrollIntoView({ block: "nearest" });
  }

  function press(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1, Enter: 0, " ": 0 }[event.key];
    const index = buttons.indexOf(event.target) + step;
    if (step === undefined || index < 0 || index >= buttons.length) return;
    event.preventDefault();
    buttons[index].focus();
    choose(index);
  }

  return h("div", { class: "probabilities" },
    h("div", { class: "tokens", role: "group", "aria-label": "Tokens with their probabilities", onkeydown: press }, buttons), details);
}

/** Return the button of a token. A `button` element would be a box of its own: it would not break lines as text does. */
function tokenButton([text, logprob], isFirst, onclick) {
  const probability = Math.exp(logprob);
  const rank = CLASSES.findIndex((least) => probability >= least);
  const label = `${visible(text)}, ${percent(probability)}`;
  const shown = text.replaceAll("\n", "⏎\n");
  const attributes = { role: "button", class: `token p${rank}`, title: label, "aria-pressed": "false", tabindex: isFirst ? "0" : "-1" };
  return h("span", { ...attributes, "aria-label": label, onclick }, shown || "∅");
}

function alternatives([text, logprob, others]) {
  const isListed = others.some(([other]) => other === text);
  const rows = isListed ? others : [...others, [text, logprob]];
  const caption = h("caption", { class: "visually-hidden" }, `Alternatives of ${visible(text)}`);
  return h("table", {}, caption, h("tbody", {}, rows.map((row) => alternative(row, row[0] === text))));
}

function alternative([text, logprob], isChosen) {
  const probability = Math.exp(logprob);
  const bar = h("span", { class: "bar" });
  bar.style.setProperty("--part", String(probability));
  return h("tr", { class: isChosen ? "chosen" : null },
    h("th", { scope: "row" }, h("code", {}, visible(text)), isChosen && h("span", { class: "visually-hidden" }, " (chosen)")),
    h("td", {}, bar), h("td", { class: "number" }, percent(probability)), h("td", { class: "number" }, logprob.toFixed(3)));
}
