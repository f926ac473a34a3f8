// Servers that fail, start again, or serve no chat model.

import assert from "node:assert/strict";

import { answer, open, send, test } from "../browser.mjs";
import { withServer } from "../server.mjs";

const expected = /Failed to load resource|ERR_/;
const state = (page) => page.locator("#state");

test("a server that dies in the middle of an answer, and comes back", (page) => withServer({ interval: 0.05 }, async (server) => {
  await open(page, server);
  await send(page, "many words");
  await page.getByText("w3 ").waitFor();
  await server.kill();
  const last = await answer(page);
  const text = await last.locator(".markdown").innerText();
  assert.match(text, /^w0 w1 w2 w3/);
  await last.getByText(/The connection ended before the answer was complete|The server does not answer/).waitFor();
  await state(page).getByText("The server does not answer.").waitFor();
  await server.start({ load_seconds: 5, waits: false });
  await state(page).getByText("The model is loading…").waitFor();
  await state(page).waitFor({ state: "hidden", timeout: 60_000 });
  await last.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("button", { name: "Stop" }).click();
  await last.getByText("Stopped.").waitFor();
  assert.ok((await last.locator(".markdown").innerText()).startsWith(text));
}), { expected, timeout: 180 });

test("a server with an embedding model only", (page) =>
  withServer({ embedding: "alone" }, async (server) => {
    await open(page, server);
    await state(page).getByText(/^This server has no chat model, only \S+\.$/).waitFor();
    assert.ok(await page.locator("#model").isDisabled());
  }), { expected });
