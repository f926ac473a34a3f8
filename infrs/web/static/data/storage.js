// localStorage and sessionStorage. Where a browser forbids or fills them, memory holds the values as long as the page.

class SafeStorage {
  held = new Map();

  constructor(name) {
    this.name = name;
  }

  /** Return a kept text, or null. */
  get(key) {
    return this.try((storage) => storage.getItem(key)) ?? this.held.get(key) ?? null;
  }

  /** Keep a text. */
  set(key, text) {
    this.held.set(key, text);
    this.try((storage) => storage.setItem(key, text));
  }

  /** Remove a text. */
  remove(key) {
    this.held.delete(key);
    this.try((storage) => storage.removeItem(key));
  }

  try(work) {
    try {
      return work(globalThis[this.name]);
    } catch {
      return null;
    }
  }
}

export const local = new SafeStorage("localStorage");
export const session = new SafeStorage("sessionStorage");
