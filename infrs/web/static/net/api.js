// Calls of the server's API. Every failure is an ApiError with the server's own words.

import { readKey } from "./key.js";
import { eventTexts } from "./sse.js";

/** A request that failed. status: of HTTP, 0 without an answer. code: the server's name of the error. */
export class ApiError extends Error {
  constructor(message, { status = 0, code = "", param = "", retryAfter = 0 } = {}) {
    super(message);
    Object.assign(this, { name: "ApiError", status, code: code ?? "", param: param ?? "", retryAfter });
  }
}

/** Return the served models, as GET /v1/models lists them. */
export async function listModels() {
  return (await readJson(await call("v1/models"))).data;
}

/** Load a model. Return once it is loaded. */
export async function loadModel(model) {
  await call("v1/models/load", { method: "POST", body: JSON.stringify({ model }) });
}

/** Return the description of the server: its embedding models and default sampling. */
export async function readProps() {
  return readJson(await call("props"));
}

/** Return once the server takes requests. Raises ApiError with the reason if it does not. */
export async function checkReady() {
  await call("ready", { signal: AbortSignal.timeout(10_000) });
}

/** Yield the chunks of a streamed chat completion. signal: an AbortSignal that ends it. */
export async function* streamChat(body, signal) {
  const options = { method: "POST", body: JSON.stringify({ ...body, stream: true }), signal };
  const response = await call("v1/chat/completions", options);
  for await (const text of events(response)) {
    if (text === "[DONE]") return;
    const chunk = JSON.parse(text);
    if (chunk.error) throw new ApiError(chunk.error.message, chunk.error);
    yield chunk;
  }
  throw new ApiError("The connection ended before the answer was complete.", { code: "connection_lost" });
}

async function* events(response) {
  try {
    yield* eventTexts(response.body);
  } catch (error) {
    throw unreachable(error);
  }
}

async function call(path, options = {}) {
  const headers = { accept: "application/json" };
  if (options.body) headers["content-type"] = "application/json";
  if (readKey()) headers.authorization = `Bearer ${readKey()}`;
  let response;
  try {
    // Relative, so that the page also works behind a proxy that serves it under a path.
    response = await fetch(new URL(path, document.baseURI), { ...options, headers, credentials: "same-origin" });
  } catch (error) {
    throw unreachable(error);
  }
  if (!response.ok) throw await failure(response);
  return response;
}

async function readJson(response) {
  try {
    return await response.json();
  } catch {
    throw new ApiError("The server's answer is not JSON.", { status: response.status, code: "invalid_answer" });
  }
}

async function failure(response) {
  const retryAfter = Number(response.headers.get("retry-after")) || 0;
  const { error } = await response.json().catch(() => ({}));
  const message = error?.message ?? response.statusText ?? "The server gave no reason.";
  return new ApiError(message, { ...error, status: response.status, retryAfter });
}

function unreachable(error) {
  if (error.name === "AbortError" || error instanceof ApiError) return error;
  return new ApiError("The server does not answer. Check that it runs and that the network works.", {
    code: "no_connection",
  });
}
