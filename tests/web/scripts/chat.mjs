// A conversation with the words w0 w1 w2 …, one every 20 ms.

import assert from "node:assert/strict";

import { answer, ask, open, send, test } from "../browser.mjs";

const words = (count) => Array.from({ length: count }, (_, index) => `w${index}`).join(" ");

test("an answer streams and shows its figures", async (page) => {
  await open(page);
  await send(page, "stop after four words");
  const last = await answer(page);
  assert.equal(await last.locator(".markdown").innerText(), words(4));
  assert.match(await last.locator(".stats").innerText(), /^4 tokens · [\d.]+ tokens\/s · first token [\d.]+ s · prompt \d+$/);
  assert.equal(await last.locator("h2").innerText(), "fake/words");
});

test("Escape stops an answer, and Continue appends to it", async (page) => {
  await open(page);
  await send(page, "many words");
  await page.getByText("w5 ").waitFor();
  await page.keyboard.press("Escape");
  const last = await answer(page);
  const stopped = await last.locator(".markdown").innerText();
  assert.match(stopped, /^w0 w1 w2 w3 w4 w5/);
  await last.getByText("Stopped.").waitFor();
  await last.getByRole("button", { name: "Continue" }).click();
  await page.getByRole("button", { name: "Stop" }).click();
  await page.waitForFunction((length) => document.querySelector(".assistant .markdown").innerText.length >= length, stopped.length);
  assert.ok((await last.locator(".markdown").innerText()).startsWith(stopped));
  assert.equal(await page.locator("article.assistant").count(), 1);
});

test("Shift and Enter start a line, and an empty message is not sent", async (page) => {
  await open(page);
  assert.ok(await page.getByRole("button", { name: "Send" }).isDisabled());
  await page.press("#prompt", "Enter");
  assert.equal(await page.locator("article").count(), 0);
  await page.fill("#prompt", "echo first");
  await page.press("#prompt", "Shift+Enter");
  assert.equal(await page.inputValue("#prompt"), "echo first\n");
});

test("a regenerated answer takes the place of the old one", async (page) => {
  await open(page);
  const first = await ask(page, "stop one");
  await ask(page, "stop two");
  await first.getByRole("button", { name: "Regenerate" }).click();
  await answer(page);
  assert.deepEqual(await page.locator("article .plain").allInnerTexts(), ["stop one"]);
  assert.equal(await page.locator("article.assistant").count(), 1);
});

test("an edited message is answered again", async (page) => {
  await open(page);
  await ask(page, "stop one");
  await ask(page, "stop two");
  const first = page.locator("article.user").first();
  await first.hover();
  await first.getByRole("button", { name: "Edit message" }).click();
  await page.getByLabel("Text of the message").fill("stop edited");
  await page.getByRole("button", { name: "Save and send" }).click();
  await answer(page);
  assert.deepEqual(await page.locator("article .plain").allInnerTexts(), ["stop edited"]);
});

test("an edited answer is what the model reads next", async (page) => {
  await open(page);
  const last = await ask(page, "stop one");
  await last.getByRole("button", { name: "Edit message" }).click();
  await page.getByLabel("Text of the message").fill("forty-two");
  await page.getByRole("button", { name: "Save", exact: true }).click();
  const echo = await ask(page, "echo stop");
  assert.match(await echo.innerText(), /assistant: forty-two/);
});

test("a deleted message comes back with Undo", async (page) => {
  await open(page);
  const last = await ask(page, "stop one");
  await last.getByRole("button", { name: "Delete message" }).click();
  assert.equal(await page.locator("article").count(), 1);
  await page.getByRole("button", { name: "Undo" }).click();
  assert.equal(await page.locator("article").count(), 2);
});

test("the system prompt and the sampling parameters reach the model", async (page) => {
  await open(page);
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.getByLabel("System prompt").fill("Be brief.");
  for (const [label, value] of [["Temperature", "0.5"], ["Top P", "0.9"], ["Top K", "7"], ["Min P", "0.05"], ["Max tokens", "9"], ["Seed", "11"]]) {
    await page.getByLabel(label, { exact: true }).fill(value);
  }
  await page.getByLabel("More fields").fill('{"stop": ["END"], "presence_penalty": 0.25}');
  const seen = JSON.parse(await (await ask(page, "seen, then stop")).locator("pre code").innerText());
  assert.deepEqual([seen[0], seen[1][0]], [9, "END"]);
  assert.deepEqual(seen.slice(3, 8), [0.5, 0.9, 7, 0.05, 11]);
  assert.equal(seen[8][1], 0.25);
  await page.getByRole("button", { name: "Reset" }).click();
  const defaults = JSON.parse(await (await ask(page, "seen, then stop")).locator("pre code").innerText());
  assert.deepEqual(defaults.slice(3, 7), [1, 1, 0, 0]);
  assert.equal(await page.getByLabel("Temperature", { exact: true }).getAttribute("placeholder"), "1");
  assert.match(await (await ask(page, "echo, then stop")).innerText(), /system: Be brief\./);
});
