// Tool calls: their arguments, and fields for the results, which the user plays.

import { codeBlock, prettyJson } from "../markdown/code.js";
import { h, icon } from "../dom/dom.js";

/** Return the view of a message's calls. onresults: takes [call, text] pairs; null if the calls are answered. */
export function callsView(calls, onresults) {
  const fields = calls.map((call) => h("textarea", { rows: "2", "aria-label": `Result of ${call.name}`, placeholder: "Result of this call" }));
  const send = () => onresults(calls.map((call, index) => [call, fields[index].value]));
  return h("div", { class: "calls" },
    calls.map((call, index) => h("div", { class: "call", role: "group", "aria-label": `Call of ${call.name}` },
      h("p", { class: "call-name" }, icon("tool"), h("code", {}, call.name)),
      codeBlock(prettyJson(call.arguments), "json"), onresults && fields[index])),
    onresults && h("button", { type: "button", class: "button", onclick: send }, calls.length > 1 ? "Send results" : "Send result"));
}
