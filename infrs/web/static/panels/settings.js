// The options of the current conversation: system prompt, sampling, token probabilities, more fields.

import { SAMPLING, parseFields } from "../data/sampling.js";
import { byId, h } from "../dom/dom.js";

/** Connect the fields to the chat. Return a function that shows the server's default sampling. */
export function startSettings(chat) {
  const fields = new Map(SAMPLING.map((parameter) => [parameter.name, field(parameter)]));
  byId("sampling").append(...SAMPLING.map((parameter) => labelled(parameter, fields.get(parameter.name))));
  const [system, alternatives, extra] = ["system", "alternatives", "extra"].map(byId);

  function keep() {
    const sampling = Object.fromEntries([...fields].map(([name, input]) => [name, input.value]));
    chat.configure({ system: system.value, sampling, alternatives: Number(alternatives.value), extra: extra.value });
    checkExtra(extra);
  }

  function show() {
    const { options } = chat.current;
    for (const [name, input] of fields) input.value = options.sampling[name] ?? "";
    [system.value, alternatives.value, extra.value] = [options.system, String(options.alternatives), options.extra];
    checkExtra(extra);
  }

  for (const input of [system, alternatives, extra, ...fields.values()]) input.addEventListener("change", keep);
  byId("reset").addEventListener("click", () => {
    for (const input of fields.values()) input.value = "";
    keep();
  });
  chat.addEventListener("thread", show);
  return (defaults) => {
    for (const [name, input] of fields) input.placeholder = defaults[name] ?? "default";
  };
}

function field({ name, min, max, step }) {
  return h("input", { id: `sampling-${name}`, type: "number", inputmode: "decimal", min, max, step: name === "seed" ? 1 : step,
    placeholder: "default", "aria-describedby": `help-${name}` });
}

function labelled({ name, label, help }, input) {
  return h("div", { class: "field" }, h("label", { for: input.id }, label), input, h("p", { class: "help", id: `help-${name}` }, help));
}

function checkExtra(extra) {
  let problem = "";
  try {
    parseFields(extra.value);
  } catch (error) {
    problem = error.message;
  }
  byId("extra-problem").textContent = problem;
  extra.setAttribute("aria-invalid", String(Boolean(problem)));
}
