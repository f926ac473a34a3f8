// The API key. It stays in this tab, or in this browser if the user wishes.

import { local, session } from "../data/storage.js";

const NAME = "infrs-api-key";

/** Return the key, "" if there is none. */
export function readKey() {
  return session.get(NAME) ?? local.get(NAME) ?? "";
}

/** Return whether the key outlives the tab. */
export function isRemembered() {
  return local.get(NAME) !== null;
}

/** Keep a key in place of the last one. An empty key removes it. */
export function keepKey(key, remember) {
  for (const storage of [session, local]) storage.remove(NAME);
  if (key) (remember ? local : session).set(NAME, key);
}
