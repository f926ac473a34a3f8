// Conversations in IndexedDB. Where a browser forbids that, they last as long as the tab.

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

  constructor(database) {
    this.database = database;
  }

  /** Return every conversation, the latest first. */
  async all() {
    return newestFirst(await this.run("readonly", (table) => table.getAll()));
  }

  /** Write a conversation. */
  async put(conversation) {
    await this.run("readwrite", (table) => table.put(structuredClone(conversation)));
  }

  /** Delete a conversation by its id. */
  async remove(id) {
    await this.run("readwrite", (table) => table.delete(id));
  }

  run(mode, work) {
    return result(work(this.database.transaction(TABLE, mode).objectStore(TABLE)));
  }
}

class MemoryStore {
  isLasting = false;
  held = new Map();

  async all() {
    return newestFirst([...this.held.values()]);
  }

  async put(conversation) {
    this.held.set(conversation.id, structuredClone(conversation));
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
