// One message of the thread: its text, reasoning, calls, figures and buttons.

import { callsView } from "./calls.js";
import { copyButton } from "../dom/clipboard.js";
import { h, iconButton, place } from "../dom/dom.js";
import { errorBox } from "./errors.js";
import { duration, statsLine } from "./format.js";
import { Markdown } from "../markdown/markdown.js";
import { editor } from "./editor.js";
import { probabilityView } from "./probabilities.js";
import { waitingLine } from "./waiting.js";

const NOTES = {
  stopped: "Stopped.",
  length: "The answer reached the maximum number of tokens.",
};
const AUTHORS = { user: "You", tool: "Result of a tool" };

export class MessageView {
  showsTokens = false;
  isEdited = false;
  markdown = new Markdown();
  reasoning = h("pre", { class: "reasoning-text", tabindex: "0" });
  summary = h("summary", {});
  folded = h("details", { class: "reasoning" }, this.summary, this.reasoning);
  body = h("div", { class: "body" });
  foot = h("div", { class: "foot" });

  /** actions: what its buttons call, see thread/thread.js. */
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    const author = AUTHORS[message.role] ?? message.model ?? "Assistant";
    this.element = h("article", { class: `message ${message.role}`, "data-id": message.id },
      h("h2", { class: message.role === "assistant" ? "author" : "visually-hidden" }, author || "Assistant"), this.body, this.foot);
  }

  /** Show the message as it is now. isRunning: more of it follows. isLast: no message follows. */
  update({ isRunning, isLast, isBusy }) {
    if (this.isEdited) return;
    this.element.classList.toggle("running", isRunning);
    this.element.setAttribute("aria-busy", String(isRunning));
    place(this.body, this.parts({ isRunning, isLast, isBusy }).filter(Boolean));
    this.foot.replaceChildren(...(isRunning ? [this.figures()] : [this.figures(), this.buttons({ isLast, isBusy })]).filter(Boolean));
  }

  parts({ isRunning, isLast, isBusy }) {
    const { message } = this;
    if (message.role !== "assistant") return [h("div", { class: "plain" }, message.content)];
    const isEmpty = !message.content && !message.reasoning && !message.calls;
    const canAnswer = isLast && !isRunning && !isBusy;
    const canContinue = canAnswer && message.content && !message.reasoning && !message.calls;
    return [
      message.reasoning && this.reasoningView(isRunning),
      this.waitingView(isRunning && isEmpty),
      message.content && this.textView(isRunning),
      message.calls && callsView(message.calls, canAnswer && message.finish === "tool_calls" ? this.actions.results : null),
      message.error && errorBox(message.error, h("p", {}, canContinue && this.textButton("Continue", "continue"), " ",
        canAnswer && this.textButton("Try again", "regenerate"))),
      NOTES[message.finish] && h("p", { class: "note" }, NOTES[message.finish], " ", canContinue && this.textButton("Continue", "continue")),
    ];
  }

  waitingView(isWaiting) {
    if (isWaiting) return (this.waiting ??= waitingLine((line) => line === this.waiting));
    return (this.waiting = null);
  }

  reasoningView(isRunning) {
    const { reasoning, content, thought } = this.message;
    this.summary.textContent = isRunning && !content ? "Thinking…" : `Thought${thought ? ` for ${duration(thought)}` : ""}`;
    if (this.reasoning.textContent !== reasoning) this.reasoning.textContent = reasoning;
    return this.folded;
  }

  textView(isRunning) {
    if (this.showsTokens && this.message.tokens && !isRunning) return (this.tokensView ??= probabilityView(this.message.tokens));
    this.tokensView = null;
    this.markdown.update(this.message.content, !isRunning);
    return this.markdown.element;
  }

  figures() {
    const { stats } = this.message;
    return stats && stats.tokens > 0 && h("p", { class: "stats" }, statsLine(stats));
  }

  buttons({ isLast, isBusy }) {
    const { message, actions } = this;
    const isAssistant = message.role === "assistant";
    return h("div", { class: "actions", role: "group", "aria-label": "Actions" },
      copyButton("Copy message", () => message.content),
      isAssistant && message.tokens && iconButton("bars", "Token probabilities", () => this.toggleTokens({ isLast, isBusy }), { "aria-pressed": String(this.showsTokens) }),
      !isBusy && isAssistant && iconButton("refresh", "Regenerate", () => actions.regenerate(message)),
      !isBusy && iconButton("edit", "Edit message", () => this.edit(), { "data-focus": true }),
      !isBusy && iconButton("trash", "Delete message", () => actions.remove(message)));
  }

  textButton(label, action) {
    return h("button", { type: "button", class: "link", onclick: () => this.actions[action](this.message) }, label);
  }

  toggleTokens(state) {
    this.showsTokens = !this.showsTokens;
    this.tokensView = null;
    this.update({ ...state, isRunning: false });
    this.foot.querySelector("[aria-pressed]")?.focus();
  }

  edit() {
    this.isEdited = true;
    const done = () => (this.isEdited = false);
    const form = editor(this.message, (text, resend) => (done(), this.actions.edit(this.message, text, resend)),
      () => (done(), this.actions.refresh()));
    this.body.replaceChildren(form);
    this.foot.replaceChildren();
    form.querySelector("textarea").focus();
  }
}
