// The model picker, and the state of the server: it polls only until the server is ready.

import { ApiError, checkReady, listModels, readProps } from "../net/api.js";
import { byId, h } from "./dom.js";

const LEAST_WAIT = 1000;
const MOST_WAIT = 30_000;
const STATES = {
  model_loading: "The model is loading…",
  shutting_down: "The server is shutting down.",
  no_connection: "The server does not answer.",
};

export class Models {
  models = [];
  wait = LEAST_WAIT;
  isAsking = false;

  /** showDefaults: takes the default sampling of the chat model. */
  constructor(chat, showDefaults) {
    Object.assign(this, { chat, showDefaults, select: byId("model"), state: byId("state") });
    this.select.addEventListener("change", () => chat.configure({ model: this.select.value }));
    chat.addEventListener("thread", () => this.show());
    chat.addEventListener("running", ({ detail }) => detail?.error && detail.error.status !== 400 && this.refresh());
    addEventListener("online", () => this.refresh());
  }

  /** Ask the server for its state and models, again and again until it is ready. */
  async refresh() {
    if (this.isAsking) return;
    this.isAsking = true;
    clearTimeout(this.timer);
    try {
      await checkReady();
      const [models, props] = await Promise.all([listModels(), readProps()]);
      const others = new Set((props.embedding_models ?? []).map(({ model }) => model));
      this.models = models.map(({ id }) => id).filter((id) => !others.has(id));
      this.showDefaults(props.default_sampling_params ?? {});
      this.wait = LEAST_WAIT;
      this.setState("");
      this.show();
    } catch (error) {
      this.failed(error);
    } finally {
      this.isAsking = false;
    }
  }

  failed(error) {
    if (!(error instanceof ApiError)) throw error;
    this.setState(STATES[error.code] ?? error.message);
    if (error.status === 401) return this.chat.emit("key", error.message);
    this.timer = setTimeout(() => this.refresh(), this.wait);
    this.wait = Math.min(this.wait * 1.5, MOST_WAIT);
  }

  /** Show the models, and the one of the current conversation. */
  show() {
    const { current } = this.chat;
    if (!this.models.length) return;
    if (!this.models.includes(current.model)) current.model = this.models[0];
    this.select.replaceChildren(...this.models.map((id) => h("option", { value: id }, id)));
    this.select.value = current.model;
    this.select.disabled = false;
  }

  setState(text) {
    if (this.state.textContent !== text) this.state.textContent = text;
    this.state.hidden = !text;
  }
}
