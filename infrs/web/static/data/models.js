// The models of a server, as GET /v1/models describes them, and what the page says about them.

const NOTES = { unloaded: "not loaded", loading: "loading…", failed: "failed", unloading: "unloading…" };
const CHANGING = new Set(["loading", "unloading"]);

/** Return the models that can chat. A model without a type is one that the server does not know before it loads it. */
export function chatModels(models) {
  return models.filter(({ type }) => !type || type === "llm").map((model) => ({ ...model, state: model.status?.value ?? "loaded" }));
}

/** Return the text of a model in the picker. */
export function optionText({ id, state }) {
  return NOTES[state] ? `${id} (${NOTES[state]})` : id;
}

/** Return whether a model's state will change by itself. */
export const isChanging = ({ state }) => CHANGING.has(state);

/** Return a sentence about a model that cannot answer now, "" for one that can. */
export function modelNotice({ id, state, status }) {
  if (state === "loading") return `${id} is loading…`;
  if (state === "failed") return `${id} is not loaded. ${status.error ?? "Its load failed."}`;
  return "";
}

/** Return a sentence about a server without a chat model, "" for one that has some. models: all of its models. */
export function serverNotice(models) {
  if (chatModels(models).length) return "";
  if (!models.length) return "This server has no model. Start it with one: infrs serve MODEL";
  return `This server has no chat model, only ${models.map(({ id }) => id).join(", ")}.`;
}
