// The messages of the current conversation. While an answer streams, only its own view changes.

import { announce, notify } from "./announce.js";
import { byId, h } from "./dom.js";
import { MessageView } from "./message.js";
import { welcome } from "./welcome.js";

const NEAR_END = 80; // px
const REST = 4; // the least pause between two updates, as a multiple of the time that the last one took

export class Thread {
  views = new Map();
  shown = null;
  isScheduled = false;
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
      refresh: () => this.show(),
    };
    chat.addEventListener("thread", () => this.show());
    chat.addEventListener("message", ({ detail }) => this.schedule(detail));
    chat.addEventListener("running", ({ detail }) => this.ended(detail));
    this.scroller.addEventListener("scroll", () => this.showJump());
    byId("jump").addEventListener("click", () => this.toEnd());
  }

  /** Show the current conversation, with the views of messages that it already has. */
  show() {
    const { current } = this.chat;
    const isOther = this.shown !== current;
    const follows = isOther || this.isAtEnd() || this.chat.active;
    if (isOther) this.views.clear();
    this.shown = current;
    const views = current.messages.map((message) => this.viewOf(message));
    this.views = new Map(views.map((view) => [view.message.id, view]));
    if (views.length) this.list.replaceChildren(...views.map((view) => view.element));
    else this.list.replaceChildren(welcome((text) => this.chat.send(text)));
    byId("title").textContent = current.title || "New chat";
    document.title = current.title ? `${current.title} · infrs` : "infrs";
    for (const view of views) view.update(this.stateOf(view.message));
    if (follows) this.toEnd();
  }

  viewOf(message) {
    const known = this.views.get(message.id);
    return known?.message === message ? known : new MessageView(message, this.actions);
  }

  stateOf(message) {
    const { active, current } = this.chat;
    return { isRunning: active?.message === message, isLast: current.messages.at(-1) === message, isBusy: Boolean(active) };
  }

  /** Update the view of a message soon. A long answer gets fewer updates, so that the page stays quick. */
  schedule(message) {
    this.late = message;
    if (this.isScheduled) return;
    this.isScheduled = true;
    requestAnimationFrame(() => {
      const started = performance.now();
      this.late = null;
      this.refresh(message);
      setTimeout(() => this.rested(), (performance.now() - started) * REST);
    });
  }

  rested() {
    this.isScheduled = false;
    if (this.late) this.schedule(this.late);
  }

  refresh(message) {
    const view = this.views.get(message.id);
    if (!view) return;
    const follows = this.isAtEnd();
    view.update(this.stateOf(message));
    if (follows) this.toEnd();
    else this.showJump();
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

  toEnd() {
    this.scroller.scrollTop = this.scroller.scrollHeight;
    this.showJump();
  }

  showJump() {
    byId("jump").hidden = this.isAtEnd();
  }
}
