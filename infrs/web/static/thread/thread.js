// The messages of the current conversation. While an answer streams, only its own view changes.

import { announce, notify } from "../dom/announce.js";
import { byId, place } from "../dom/dom.js";
import { restoreFocus } from "../dom/focus.js";
import { MessageView } from "./message.js";
import { welcome } from "./welcome.js";

const NEAR_END = 80; // px

export class Thread {
  views = new Map();
  shown = null;
  follows = true; // the end of the conversation stays in view
  late = null; // the message with chunks that are not shown yet

  constructor(chat) {
    this.chat = chat;
    this.scroller = byId("thread");
    this.list = byId("messages");
    this.actions = {
      regenerate: (message) => chat.regenerate(message.id),
      continue: (message) => chat.answer({ continues: message }),
      edit: (message, text, resend) => chat.edit(message, text, resend),
      remove: async (message) => notify("Message deleted.", { label: "Undo", run: await chat.removeMessage(message) }),
      results: (results) => chat.sendResults(results),
      refresh: () => (this.show(), restoreFocus()),
    };
    chat.addEventListener("thread", () => this.show());
    chat.addEventListener("message", ({ detail }) => this.schedule(detail));
    chat.addEventListener("running", ({ detail }) => this.ended(detail));
    this.scroller.addEventListener("scroll", () => this.scrolled());
    this.list.addEventListener("click", () => (this.follows &&= Boolean(chat.active)));
    new ResizeObserver(() => this.resized()).observe(this.list);
    byId("jump").addEventListener("click", () => this.toEnd());
  }

  /** Show the current conversation, with the views of messages that it already has. */
  show() {
    const { current } = this.chat;
    const isOther = this.shown !== current;
    if (isOther || this.chat.active) this.follows = true;
    if (isOther) this.views.clear();
    this.shown = current;
    const views = current.messages.map((message) => this.viewOf(message));
    this.views = new Map(views.map((view) => [view.message.id, view]));
    place(this.list, views.length ? views.map((view) => view.element) : [welcome((text) => this.chat.send(text))]);
    byId("title").textContent = current.title || "New chat";
    document.title = current.title ? `${current.title} · infrs` : "infrs";
    for (const view of views) view.update(this.stateOf(view.message));
    this.resized();
  }

  viewOf(message) {
    const known = this.views.get(message.id);
    return known?.message === message ? known : new MessageView(message, this.actions);
  }

  stateOf(message) {
    const { active, current } = this.chat;
    return { isRunning: active?.message === message, isLast: current.messages.at(-1) === message, isBusy: Boolean(active) };
  }

  /** Update the view of a message with the next frame. */
  schedule(message) {
    if (!this.late) requestAnimationFrame(() => this.refresh());
    this.late = message;
  }

  refresh() {
    const view = this.views.get(this.late.id);
    view?.update(this.stateOf(this.late));
    this.late = null;
  }

  /** Say what became of an answer, once. */
  ended(message) {
    this.show();
    if (!message) return announce("Generating an answer");
    if (message.error) announce(`Error: ${message.error.message}`);
    else announce(message.finish === "stopped" ? "Stopped" : `Answer: ${message.content || "tool calls"}`);
  }

  isAtEnd() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  scrolled() {
    this.follows = this.isAtEnd();
    this.showJump();
  }

  /** Keep the end in view, unless the user scrolled away from it. */
  resized() {
    if (this.follows) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.showJump();
  }

  toEnd() {
    this.follows = true;
    this.resized();
  }

  showJump() {
    byId("jump").hidden = this.isAtEnd();
  }
}
