// The model picker, and the state of the server. It asks again only while something changes or fails.

import { chatModels, isChanging, modelNotice, optionText, serverNotice } from "../data/models.js";
import { ApiError, checkReady, listModels, loadModel, readProps } from "../net/api.js";
import { byId, h } from "../dom/dom.js";

const LEAST_WAIT = 1000;
const MOST_WAIT = 5000;
const STATES = {
  model_loading: "The model is loading…",
  model_load_failed: "The model is loading…", // without a list of models, the server is at its start
  server_draining: "The server is shutting down.",
  no_connection: "The server does not answer.",
};

export class Models {
  all = [];
  models = []; // those that can chat
  props = {};
  wait = LEAST_WAIT;
  asking = null;

  /** showDefaults: takes the default sampling of the current model. */
  constructor(chat, showDefaults) {
    Object.assign(this, { chat, showDefaults, select: byId("model"), state: byId("state") });
    this.select.addEventListener("change", () => this.choose(this.select.value));
    this.select.addEventListener("focus", () => this.refresh());
    chat.addEventListener("thread", () => this.show());
    chat.addEventListener("running", ({ detail }) => this.answering(detail));
    addEventListener("online", () => this.refresh());
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  /** Ask the server for its state and models, again and again while they change. */
  refresh() {
    clearTimeout(this.timer);
    this.asking ??= this.ask().finally(() => (this.asking = null));
    return this.asking;
  }

  async ask() {
    let isListed = false;
    try {
      [this.all, this.props] = await Promise.all([listModels(), readProps()]);
      this.models = chatModels(this.all);
      isListed = true;
      this.show();
      if (!this.notice()) await checkReady();
      this.wait = LEAST_WAIT;
      if (this.models.some(isChanging)) this.later();
    } catch (error) {
      this.failed(error, isListed);
    }
  }

  failed(error, isListed) {
    if (!(error instanceof ApiError)) throw error;
    if (error.status === 401) {
      this.setState(error.message);
      return this.chat.emit("key", error.message);
    }
    // The server is not ready without every model of its start; the current one may answer all the same.
    if (error.code !== "model_load_failed" || !isListed) this.setState(STATES[error.code] ?? error.message);
    this.later();
    this.wait = Math.min(this.wait * 1.5, MOST_WAIT);
  }

  later() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.refresh(), this.wait);
  }

  /** Take another model for the conversation, and load it. */
  async choose(id) {
    this.chat.configure({ model: id });
    this.show();
    if (!this.expectLoad()) return;
    try {
      await loadModel(id);
    } catch (error) {
      if (error.status === 401) this.chat.emit("key", error.message);
    }
    await this.asking;
    await this.refresh();
  }

  /** A request loads its model, and one that fails may tell of a server in trouble. */
  answering(message) {
    if (!message) this.expectLoad();
    else if (this.current()?.state !== "loaded" || (message.error && message.error.status !== 400)) this.refresh();
  }

  /** Show that the current model loads, before the server says so. Return false if it is loaded. */
  expectLoad() {
    const model = this.current();
    if (!model || model.state === "loaded") return false;
    model.state = "loading";
    this.show();
    this.later();
    return true;
  }

  current() {
    return this.models.find(({ id }) => id === this.chat.current.model);
  }

  notice() {
    return serverNotice(this.all) || modelNotice(this.current());
  }

  /** Show the models, and the one of the current conversation. */
  show() {
    const { chat, select } = this;
    if (!this.all.length && !this.asking) return;
    if (this.models.length && !this.current()) chat.current.model = this.models[0].id;
    const options = this.models.map((model) => h("option", { value: model.id }, optionText(model)));
    const texts = (list) => [...list].map(({ value, textContent }) => `${value} ${textContent}`).join("\n");
    // An open list would close.
    if (texts(options) !== texts(select.options) && options.length) select.replaceChildren(...options);
    select.value = chat.current.model;
    select.disabled = !options.length;
    this.showDefaults(this.props.chat_models?.find(({ model }) => model === select.value)?.default_sampling_params ?? {});
    this.setState(this.notice());
  }

  setState(text) {
    if (this.state.textContent !== text) this.state.textContent = text;
    this.state.hidden = !text;
    this.state.classList.toggle("waiting", text.endsWith("…"));
  }
}
