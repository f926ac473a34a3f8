// A server with several models, little context and a short queue.

import assert from "node:assert/strict";

import { BASE, answer, ask, open, send, test } from "../browser.mjs";

const expected = /Failed to load resource/;
const state = (page) => page.locator("#state");
const options = (page) => page.locator("#model option").allInnerTexts();
const waiting = async (page, count) => {
  const metric = new RegExp(`^infrs_requests_waiting\\S* ${count}(\\.0)?$`, "m");
  while (!metric.test(await (await fetch(`${BASE}/metrics`)).text())) await page.waitForTimeout(20);
};

test("models load when they are chosen, and one that fails says why", async (page) => {
  await open(page);
  assert.deepEqual(await options(page), ["fake/words", "good (not loaded)", "bad (not loaded)", "other (not loaded)"]); // no embedding model
  await page.selectOption("#model", "good");
  await state(page).getByText("good is loading…").waitFor();
  await state(page).waitFor({ state: "hidden" });
  assert.equal((await options(page))[1], "good");
  assert.equal(await (await ask(page, "stop")).locator("h2").innerText(), "good");
  await page.selectOption("#model", "bad");
  await state(page).getByText(/^bad is not loaded\. .+/).waitFor();
  assert.equal((await options(page))[2], "bad (failed)");
  await page.selectOption("#model", "good");
  await state(page).waitFor({ state: "hidden" });
}, { expected });

test("a request loads the model of its conversation", async (page) => {
  await page.addInitScript(() => localStorage.setItem("infrs-model", '"other"'));
  await open(page);
  await send(page, "stop");
  await state(page).getByText("other is loading…").waitFor();
  await answer(page);
  await state(page).waitFor({ state: "hidden" });
  assert.equal((await options(page))[3], "other");
});

test("a full server gives its reason, and the request can be sent again", async (page) => {
  await open(page);
  const body = JSON.stringify({ model: "fake/words", messages: [{ role: "user", content: "many" }], stream: true });
  const requests = [0, 1].map(() => new AbortController());
  for (const { signal } of requests) {
    const options = { method: "POST", body, signal, headers: { "content-type": "application/json" } };
    fetch(`${BASE}/v1/chat/completions`, options).catch(() => {});  // the second one waits for the first
  }
  await waiting(page, 1);
  const refused = await ask(page, "stop");
  assert.match(await refused.locator(".error").innerText(), /try again in a moment\s+HTTP 429 · .*retry after \d+\ss/);
  requests.forEach((request) => request.abort());
  await waiting(page, 0); // a retry before the server has seen the aborts is refused too
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator(".assistant .markdown", { hasText: "w0 w1 w2 w3" }).waitFor();
}, { expected });

test("a conversation that is longer than the context", async (page) => {
  await open(page);
  const error = (await ask(page, "long ".repeat(60))).locator(".error");
  assert.match(await error.innerText(), /maximum context length is 200 tokens[^]*context_length_exceeded/);
  await error.getByText("Delete messages, or start a new chat.").waitFor();
}, { expected });

test("an engine that fails in the middle of an answer", async (page) => {
  await open(page);
  const failed = await ask(page, "boom");
  assert.match(await failed.locator(".markdown").innerText(), /^w0 w1/);
  assert.match(await failed.locator(".error").innerText(), /engine/);
}, { expected });

test("a slow answer shows how long it takes, and can be stopped", async (page) => {
  await page.route("**/v1/chat/completions", () => {}); // never answers
  await open(page);
  await send(page, "stop");
  await page.getByText(/Waiting for the first token, \d+ s/).waitFor();
  await page.keyboard.press("Escape");
  await page.getByText("Stopped.").waitFor();
});
