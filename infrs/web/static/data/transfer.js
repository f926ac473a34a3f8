// Conversations as a JSON file, for a backup or another browser.

import { newId } from "./ids.js";
import { NO_OPTIONS } from "./conversation.js";

const FORMAT = "infrs-conversations";
const VERSION = 1;
const ROLES = new Set(["user", "assistant", "tool"]);

const isText = (value) => typeof value === "string";
const isNumber = (value) => Number.isFinite(value);
const isList = (check) => (value) => Array.isArray(value) && value.every(check);
const isScored = (value) => Array.isArray(value) && isText(value[0]) && isNumber(value[1]);
const isObject = (checks) => (value) =>
  typeof value === "object" && value !== null && Object.entries(checks).every(([name, check]) => check(value[name]));

// What a message may have besides its role and text. A field of another form is left out: the page could not show it.
const FIELDS = {
  reasoning: isText,
  thought: isNumber,
  calls: isList(isObject({ id: isText, name: isText, arguments: isText })),
  callId: isText,
  name: isText,
  tokens: isList((value) => isScored(value) && isList(isScored)(value[2])),
  stats: isObject({ tokens: isNumber, promptTokens: isNumber }),
  finish: isText,
  error: isObject({ message: isText }),
  model: isText,
};

/** Return the text of a file with conversations. */
export function exportText(conversations) {
  return JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, 1);
}

/** Return the conversations of a file, with new ids. Raises Error with the reason for any other text. */
export function importText(text) {
  let file;
  try {
    file = JSON.parse(text);
  } catch {
    throw new Error("The file is not JSON.");
  }
  if (file?.format !== FORMAT || !Array.isArray(file.conversations)) {
    throw new Error("The file holds no conversations of infrs.");
  }
  if (file.version !== VERSION) throw new Error(`The file has version ${file.version}; this page reads ${VERSION}.`);
  return file.conversations.map(readConversation);
}

function readConversation(given, index) {
  if (!Array.isArray(given?.messages)) throw new Error(`Conversation ${index + 1} of the file has no messages.`);
  const options = given.options ?? {};
  return {
    id: newId(),
    title: text(given.title),
    created: time(given.created),
    updated: time(given.updated),
    model: text(given.model),
    options: {
      system: text(options.system),
      sampling: Object.fromEntries(Object.entries(options.sampling ?? {}).map(([name, value]) => [name, String(value)])),
      alternatives: Number(options.alternatives) || NO_OPTIONS.alternatives,
      extra: text(options.extra),
    },
    messages: given.messages.map((message, place) => readMessage(message, index, place)),
  };
}

function readMessage(given, index, place) {
  if (!ROLES.has(given?.role) || typeof given.content !== "string") {
    throw new Error(`Message ${place + 1} of conversation ${index + 1} has no known role, or no text.`);
  }
  const message = { id: newId(), role: given.role, content: given.content };
  for (const [field, check] of Object.entries(FIELDS)) if (check(given[field])) message[field] = given[field];
  return message;
}

function text(value) {
  return typeof value === "string" ? value : "";
}

function time(value) {
  return Number.isFinite(value) ? value : Date.now();
}
