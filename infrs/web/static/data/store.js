// Conversations in IndexedDB. Where a browser forbids that, they last as long as the tab.

import { mergeMessages } from "./merge.js";

const DATABASE = "infrs";
const TABLE = "conversations";

/** Open the store. `isLasting` is false if the browser allows only memory. */
export async function openStore() {
  try {
    return new LastingStore(await openDatabase());
  } catch {
    return new MemoryStore();
  }
}

class LastingStore {
  isLasting = true;
  known = new Map(); // the ids of the messages that this tab has read or written, by conversation
  channel = new BroadcastChannel(DATABASE);

  constructor(database) {
    this.database = database;
    // Another tab's page may be newer and need the database in another form.
    database.onversionchange = () => database.close();
  }

  /** Call a function with the id of each conversation that another tab writes or deletes. */
  listen(onchange) {
    this.channel.addEventListener("message", ({ data }) => onchange(data));
  }

  /** Return every conversation, the latest first. */
  async all() {
    const conversations = await this.run("readonly", (table) => result(table.getAll()));
    for (const conversation of conversations) this.know(conversation);
    return newestFirst(conversations);
  }

  /** Return a conversation, undefined if it is deleted. */
  async get(id) {
    const conversation = await this.run("readonly", (table) => result(table.get(id)));
    if (conversation) this.know(conversation);
    return conversation;
  }

  /** Write a conversation. Messages of other tabs join it first; return whether there are any. */
  async put(conversation) {
    const { messages } = conversation;
    const before = messages.length;
    await this.run("readwrite", async (table) => {
      const stored = await result(table.get(conversation.id));
      const known = this.known.get(conversation.id) ?? new Set();
      if (stored) messages.splice(0, Infinity, ...mergeMessages(messages, stored.messages, known));
      await result(table.put(structuredClone(conversation)));
      this.know(conversation);
    });
    this.channel.postMessage(conversation.id);
    return messages.length !== before;
  }

  /** Delete a conversation by its id. */
  async remove(id) {
    await this.run("readwrite", (table) => result(table.delete(id)));
    this.channel.postMessage(id);
  }

  know({ id, messages }) {
    const known = this.known.get(id) ?? new Set();
    for (const message of messages) known.add(message.id);
    this.known.set(id, known);
  }

  /** Do some work in a transaction. Return its result once the transaction is complete. */
  async run(mode, work) {
    const transaction = this.database.transaction(TABLE, mode);
    const complete = new Promise((resolve, reject) => {
      transaction.oncomplete = resolve;
      transaction.onabort = () => reject(transaction.error);
    });
    complete.catch(() => {}); // `work` fails too, and is waited for first
    const value = await work(transaction.objectStore(TABLE));
    await complete;
    return value;
  }
}

class MemoryStore {
  isLasting = false;
  held = new Map();

  listen() {}

  async all() {
    return newestFirst([...this.held.values()]);
  }

  async get(id) {
    return this.held.get(id);
  }

  async put(conversation) {
    this.held.set(conversation.id, structuredClone(conversation));
    return false;
  }

  async remove(id) {
    this.held.delete(id);
  }
}

function openDatabase() {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(TABLE, { keyPath: "id" });
  return result(opening);
}

function result(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
    request.onblocked = () => reject(new Error("another tab blocks the database"));
  });
}

function newestFirst(conversations) {
  return conversations.sort((one, other) => other.updated - one.updated);
}
