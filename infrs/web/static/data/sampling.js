// The sampling parameters that the page offers. An empty one is left out, so the server's default applies.

export const SAMPLING = [
  { name: "temperature", label: "Temperature", min: 0, max: 2, step: 0.05, help: "0 always takes the likeliest token." },
  { name: "top_p", label: "Top P", min: 0, max: 1, step: 0.01, help: "Keep the likeliest tokens up to this sum." },
  { name: "top_k", label: "Top K", min: -1, step: 1, help: "Keep this number of tokens. 0: all." },
  { name: "min_p", label: "Min P", min: 0, max: 1, step: 0.01, help: "Least probability, relative to the likeliest." },
  { name: "max_tokens", label: "Max tokens", min: 1, step: 1, help: "Longest answer, in tokens." },
  { name: "seed", label: "Seed", step: 1, help: "The same seed gives the same answer." },
];

/** Return the parameters of a request: the numbers among the given texts. */
export function samplingFields(values) {
  const given = SAMPLING.map(({ name }) => [name, String(values[name] ?? "").trim()]);
  return Object.fromEntries(given.filter(([, text]) => text && Number.isFinite(Number(text))).map(toNumber));
}

function toNumber([name, text]) {
  return [name, Number(text)];
}

/** Return the object of a JSON text, {} for an empty one. Raises SyntaxError for anything else. */
export function parseFields(text) {
  if (!text?.trim()) return {};
  const fields = parsed(text);
  if (fields === null || typeof fields !== "object" || Array.isArray(fields)) {
    throw new SyntaxError('"More fields" in the settings is not an object in JSON, such as {"stop": ["END"]}.');
  }
  return fields;
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
