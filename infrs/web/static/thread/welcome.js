import { h } from "../dom/dom.js";

const IDEAS = [
  "Explain in two sentences how a CPU cache works.",
  "Write a Python function that reverses the words of a sentence.",
  "Give me a table of three planets with their sizes.",
];

/** Return what an empty conversation shows. send: takes the text of an idea. */
export function welcome(send) {
  const idea = (text) => h("button", { type: "button", class: "idea", onclick: () => send(text) }, text);
  return h("div", { class: "welcome" },
    h("img", { src: "web/icon.svg", alt: "", width: "48", height: "48" }),
    h("p", { class: "lead" }, "Talk to the model"),
    h("p", { class: "hint" }, "Conversations stay in this browser."), h("div", { class: "ideas" }, IDEAS.map(idea)));
}
