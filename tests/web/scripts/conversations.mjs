// Conversations stay in the browser, and travel as a file.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { ask, open, test } from "../browser.mjs";

const titles = (page) => page.locator("#conversations .title").allInnerTexts();

test("conversations outlive a reload and can be found, renamed and deleted", async (page) => {
  await open(page);
  await ask(page, "stop apples");
  await page.getByRole("button", { name: "New chat" }).click();
  await ask(page, "stop pears");
  await open(page);
  assert.deepEqual((await titles(page)).sort(), ["stop apples", "stop pears"]);
  await page.getByLabel("Search the conversations").fill("APPLE");
  assert.deepEqual(await titles(page), ["stop apples"]);
  await page.getByRole("button", { name: "stop apples", exact: true }).click();
  await page.locator(".assistant .markdown", { hasText: "w0 w1 w2 w3" }).waitFor();
  await page.getByRole("button", { name: "Rename stop apples" }).click();
  await page.getByLabel("Title").fill("Apples!");
  await page.keyboard.press("Enter");
  assert.deepEqual(await titles(page), ["Apples!"]);
  await page.getByRole("button", { name: "Delete Apples!" }).click();
  await page.getByLabel("Search the conversations").fill("");
  assert.deepEqual(await titles(page), ["stop pears"]);
  await page.getByRole("button", { name: "Undo" }).click();
  assert.equal((await titles(page)).length, 2);
});

test("an exported file can be imported, and a damaged one is refused", async (page) => {
  await open(page);
  await ask(page, "stop apples");
  const [download] = await Promise.all([page.waitForEvent("download"), page.getByRole("button", { name: "Export" }).click()]);
  const text = await readFile(await download.path(), "utf8");
  assert.deepEqual(JSON.parse(text).conversations[0].messages.map(({ content }) => content.trim()), ["stop apples", "w0 w1 w2 w3"]);
  const give = (content) => page.setInputFiles("#import-file", { name: "a.json", mimeType: "application/json", buffer: Buffer.from(content) });
  await give(text);
  await page.getByText("Imported 1 conversation.").waitFor();
  assert.deepEqual(await titles(page), ["stop apples", "stop apples"]);
  const damaged = JSON.parse(text);
  Object.assign(damaged.conversations[0].messages[1], { calls: 3, tokens: [null], stats: "x", error: 7, reasoning: {} });
  await give(JSON.stringify(damaged));
  await page.locator("#conversations li").nth(2).waitFor();
  await page.locator(".assistant .markdown", { hasText: "w0 w1 w2 w3" }).waitFor();
  for (const [content, reason] of [["{", "The file is not JSON."], ["[]", "The file holds no conversations of infrs."],
    [JSON.stringify({ ...damaged, version: 9 }), "The file has version 9; this page reads 1."]]) {
    await give(content);
    await page.getByText(reason).waitFor();
  }
});

test("an answer continues while another conversation is open", async (page) => {
  await open(page);
  await page.fill("#prompt", "many words");
  await page.press("#prompt", "Enter");
  await page.getByText("w2 ").waitFor();
  await page.getByRole("button", { name: "New chat" }).click();
  await ask(page, "stop");
  await page.getByRole("button", { name: "many words", exact: true }).click();
  await page.locator("#send").click();
  await page.getByText("Stopped.").waitFor();
});
