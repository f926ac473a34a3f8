// The conversations, and the answers that run. Views listen to its events: `list`, `thread`, `message`, `running`,
// `key` (the server wants one), `unsaved`.

import { NO_OPTIONS, addMessage, newConversation, removeMessage, requestBody } from "./data/conversation.js";
import { sameObjects } from "./data/merge.js";
import { preference, setPreference } from "./data/preferences.js";
import { Answer } from "./net/answer.js";
import { streamChat } from "./net/api.js";
import { plainError } from "./thread/errors.js";

export class Chat extends EventTarget {
  conversations = [];
  current = null;
  running = new Map(); // conversation id to { controller, message }

  constructor(store) {
    super();
    this.store = store;
    store.listen((id) => this.readAgain(id));
  }

  /** Read the stored conversations and open an empty one. */
  async start() {
    this.conversations = await this.store.all();
    this.create();
  }

  emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }

  get active() {
    return this.running.get(this.current.id);
  }

  /** Open a new conversation with the options of the last one. It is listed with its first message. */
  create() {
    this.current = newConversation(preference("model", ""), { ...NO_OPTIONS, ...preference("options", {}) });
    this.emit("list");
    this.emit("thread");
  }

  /** Open a conversation by its id. */
  open(id) {
    this.current = this.conversations.find((conversation) => conversation.id === id) ?? this.current;
    this.emit("list");
    this.emit("thread");
  }

  /** Store a conversation, and list it as the latest if it is new. */
  async save(conversation = this.current) {
    if (!this.conversations.includes(conversation)) this.conversations.unshift(conversation);
    this.emit("list");
    try {
      const isMerged = await this.store.put(conversation);
      if (isMerged && conversation === this.current) this.emit("thread");
    } catch (error) {
      this.emit("unsaved", error);
    }
  }

  /** Show what another tab did to a conversation. One with an answer that runs here joins it when it is saved. */
  async readAgain(id) {
    const stored = await this.store.get(id);
    const ours = this.conversations.find((conversation) => conversation.id === id);
    if (this.running.has(id)) return;
    if (!stored) this.conversations = this.conversations.filter((conversation) => conversation !== ours);
    else if (!ours) this.conversations.unshift(stored);
    else Object.assign(ours, stored, { messages: sameObjects(ours.messages, stored.messages) });
    this.emit("list");
    if (ours === this.current) this.emit("thread");
  }

  /** Add conversations from a file. */
  async add(conversations) {
    for (const conversation of conversations) await this.store.put(conversation);
    this.conversations = await this.store.all();
    this.open(conversations[0]?.id);
  }

  /** Give a conversation another title. */
  rename(conversation, title) {
    if (title.trim()) conversation.title = title.trim();
    return this.save(conversation);
  }

  /** Delete a conversation. Return a function that brings it back. */
  async remove(conversation) {
    this.running.get(conversation.id)?.controller.abort();
    this.conversations = this.conversations.filter((other) => other !== conversation);
    try {
      await this.store.remove(conversation.id);
    } catch (error) {
      this.emit("unsaved", error);
    }
    if (conversation === this.current) this.create();
    else this.emit("list");
    return () => this.save(conversation);
  }

  /** Change the model or the options of the current conversation; new conversations get them too. */
  configure({ model, ...options }) {
    if (model !== undefined) this.current.model = model;
    Object.assign(this.current.options, options);
    setPreference("model", this.current.model);
    setPreference("options", this.current.options);
    if (this.current.messages.length) this.save();
  }

  /** Send a message of the user. */
  async send(text) {
    addMessage(this.current, "user", text);
    this.save();
    await this.answer();
  }

  /** Replace an answer and all after it by a new answer. */
  async regenerate(id) {
    removeMessage(this.current, id, true);
    await this.answer();
  }

  /** Change the text of a message. resend: answer it again, in place of what followed. */
  async edit(message, text, resend) {
    const { messages } = this.current;
    message.content = text;
    delete message.tokens;
    if (resend) messages.splice(messages.indexOf(message) + 1);
    this.save();
    this.emit("thread");
    if (resend) await this.answer();
  }

  /** Delete one message. Return a function that brings it back. */
  async removeMessage(message) {
    const conversation = this.current;
    const index = conversation.messages.indexOf(message);
    removeMessage(conversation, message.id);
    this.emit("thread");
    await this.save(conversation);
    return () => {
      conversation.messages.splice(index, 0, message);
      this.emit("thread");
      return this.save(conversation);
    };
  }

  /** Send the results of tool calls: [call, text] pairs. */
  async sendResults(results) {
    for (const [call, text] of results) addMessage(this.current, "tool", text, { callId: call.id, name: call.name });
    this.emit("thread");
    await this.answer();
  }

  /** Stop the answer of the current conversation. */
  stop() {
    this.active?.controller.abort();
  }

  /** Generate the next answer, or the rest of the last one. */
  async answer({ continues } = {}) {
    const conversation = this.current;
    if (this.running.has(conversation.id)) return;
    const message = continues ?? addMessage(conversation, "assistant", "", { model: conversation.model });
    const controller = new AbortController();
    delete message.error;
    delete message.finish;
    this.running.set(conversation.id, { controller, message });
    this.emit("thread");
    this.emit("running");
    try {
      const body = requestBody(conversation);
      await this.collect(continues ? { ...body, continue_final_message: true } : body, message, controller.signal);
    } catch (error) {
      if (error.name === "AbortError") message.finish = "stopped";
      else message.error = plainError(error);
    }
    this.running.delete(conversation.id);
    conversation.updated = Date.now();
    this.emit("message", message);
    this.emit("running", message);
    if (message.error?.status === 401) this.emit("key", message.error.message);
    await this.save(conversation);
  }

  async collect(body, message, signal) {
    const answer = new Answer(message);
    for await (const chunk of streamChat(body, signal)) {
      answer.add(chunk);
      this.emit("message", message);
    }
  }
}
