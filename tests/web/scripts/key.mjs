// A server that requires an API key.

import assert from "node:assert/strict";

import { ask, open, test } from "../browser.mjs";

const KEY = process.env.KEY;
const expected = /401/;

async function give(page, key, remember) {
  const dialog = page.getByRole("dialog", { name: "API key" });
  await dialog.waitFor();
  await dialog.getByLabel("Key", { exact: true }).fill(key);
  await dialog.getByLabel(/Remember/).setChecked(remember);
  await dialog.getByRole("button", { name: "Use key" }).click();
}

for (const remember of [false, true]) {
  test(`a key is asked for and kept in ${remember ? "localStorage" : "sessionStorage"}`, async (page) => {
    await open(page);
    await page.getByText("this server requires an API key").first().waitFor();
    await give(page, "wrong-key-0123456789", false);
    await page.getByText("this API key is not one of this server's").first().waitFor();
    await give(page, KEY, remember);
    await page.locator("#model option[value='fake/words']").waitFor({ state: "attached" });
    await ask(page, "stop");
    const kept = await page.evaluate(() => [sessionStorage, localStorage].map((storage) => storage.getItem("infrs-api-key")));
    assert.deepEqual(kept, remember ? [null, KEY] : [KEY, null]);
    await page.reload();
    await page.waitForSelector("[data-started]");
    assert.equal(await page.getByRole("dialog").count(), 0);
    assert.equal(await page.inputValue("#model"), "fake/words");
  }, { expected });
}

test("a message that lacked the key is sent again with it", async (page) => {
  await open(page);
  await page.keyboard.press("Escape");
  await page.fill("#prompt", "stop");
  await page.press("#prompt", "Enter");
  await give(page, KEY, false);
  await page.locator(".assistant .markdown").getByText("w0 w1 w2 w3").waitFor();
  assert.equal(await page.locator("article").count(), 2);
}, { expected });
