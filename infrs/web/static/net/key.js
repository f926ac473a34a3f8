// The API key. It stays in this tab, or in this browser if the user wishes.

const NAME = "infrs-api-key";

/** Return the key, "" if there is none. */
export function readKey() {
  return sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME) ?? "";
}

/** Return whether the key outlives the tab. */
export function isRemembered() {
  return localStorage.getItem(NAME) !== null;
}

/** Keep a key in place of the last one. An empty key removes it. */
export function keepKey(key, remember) {
  for (const storage of [sessionStorage, localStorage]) storage.removeItem(NAME);
  if (key) (remember ? localStorage : sessionStorage).setItem(NAME, key);
}
