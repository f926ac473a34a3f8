// Conversations as plain values, which IndexedDB and JSON hold unchanged.

import { newId } from "./ids.js";
import { parseFields, samplingFields } from "./sampling.js";

const LONGEST_TITLE = 60;

/** The options of a conversation: what a request has besides its messages. */
export const NO_OPTIONS = { system: "", sampling: {}, alternatives: 0, extra: "" };

/** Return a new conversation. options: as in NO_OPTIONS. */
export function newConversation(model = "", options = NO_OPTIONS) {
  const now = Date.now();
  return { id: newId(), title: "", created: now, updated: now, model, options: structuredClone(options), messages: [] };
}

/** Append a message and return it. fields: more of the message. */
export function addMessage(conversation, role, content, fields = {}) {
  const message = { id: newId(), role, content, ...fields };
  conversation.messages.push(message);
  conversation.updated = Date.now();
  if (!conversation.title && role === "user") conversation.title = titleOf(content);
  return message;
}

/** Return the first line of a text, shortened. */
export function titleOf(text) {
  const line = text.trim().split("\n", 1)[0];
  return line.length > LONGEST_TITLE ? `${line.slice(0, LONGEST_TITLE - 1).trimEnd()}…` : line;
}

/** Remove a message, and with `andLater` all that follow it. Return the removed ones. */
export function removeMessage(conversation, id, andLater = false) {
  const index = conversation.messages.findIndex((message) => message.id === id);
  if (index < 0) return [];
  conversation.updated = Date.now();
  return conversation.messages.splice(index, andLater ? Infinity : 1);
}

/** Return the body of the request for the next answer. Raises SyntaxError for fields that are not JSON. */
export function requestBody(conversation) {
  const { system, sampling, alternatives, extra } = conversation.options;
  const messages = conversation.messages.flatMap(toWire);
  if (system.trim()) messages.unshift({ role: "system", content: system });
  return {
    model: conversation.model,
    messages,
    stream_options: { include_usage: true, continuous_usage_stats: true },
    ...samplingFields(sampling),
    ...(alternatives > 0 ? { logprobs: true, top_logprobs: alternatives } : {}),
    ...parseFields(extra),
  };
}

/** Return a message in the API's form; nothing for an answer that failed before its first token. */
function toWire({ role, content, calls, callId }) {
  if (role === "tool") return [{ role, content, tool_call_id: callId }];
  if (calls?.length) {
    const toCall = (call) => ({ id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } });
    return [{ role, content: content || null, tool_calls: calls.map(toCall) }];
  }
  return content ? [{ role, content }] : [];
}
