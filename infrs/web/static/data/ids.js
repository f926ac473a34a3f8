/** Return a new random id. `crypto.randomUUID` needs HTTPS, which a server in a local network lacks. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}
