import { h } from "../dom/dom.js";

/** Return the form that edits a message. onsave: takes the text, and whether to answer it again. */
export function editor(message, onsave, oncancel) {
  const isUser = message.role === "user";
  const field = h("textarea", { "aria-label": "Text of the message", rows: String(Math.min(20, message.content.split("\n").length + 2)) });
  field.value = message.content;
  const save = (resend) => (field.value.trim() || !isUser ? onsave(field.value, resend) : field.focus());
  const keys = (event) => {
    if (event.key === "Escape") (event.stopPropagation(), oncancel());
    else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) save(isUser);
  };
  field.addEventListener("keydown", keys);
  const button = (label, onclick, kind = "") => h("button", { type: "button", class: `button ${kind}`, onclick }, label);
  return h("div", { class: "editor" }, field, h("div", { class: "row" },
    isUser && button("Save and send", () => save(true), "primary"),
    button("Save", () => save(false), isUser ? "" : "primary"), button("Cancel", oncancel)));
}
