// One conversation in two tabs, and browsers that store nothing.

import assert from "node:assert/strict";

import { answer, ask, open, send, test } from "../browser.mjs";

const texts = (page) => page.locator("article .plain").allInnerTexts();

test("two tabs that write in one conversation lose no message", async (page) => {
  await open(page);
  await ask(page, "stop first");
  const other = await page.context().newPage();
  await open(other);
  await other.locator("#conversations .title").click();
  // Both answer at the same time.
  await send(page, "stop here");
  await send(other, "stop there");
  await answer(page, 1);
  await answer(other, 1);
  for (const each of [page, other]) {
    await each.waitForFunction(() => document.querySelectorAll("article.assistant .actions").length === 3);
    const [first, ...rest] = await texts(each);
    assert.equal(first, "stop first");
    assert.deepEqual(rest.sort(), ["stop here", "stop there"]);
  }
  await other.locator("article.user").first().hover();
  await other.getByRole("button", { name: "Delete message" }).first().click();
  await page.waitForFunction(() => document.querySelectorAll("article").length === 5);
  await open(page);
  await page.locator("#conversations .title").click();
  assert.deepEqual((await texts(page)).sort(), ["stop here", "stop there"]);
  await other.getByRole("button", { name: "Delete stop first" }).click();
  await page.locator("#conversations .title").waitFor({ state: "detached" });
});

test("a browser that forbids storage still talks to the model", async (page) => {
  await page.addInitScript(() => {
    const refuse = () => {
      throw new DOMException("Access is denied for this document.", "SecurityError");
    };
    for (const name of ["localStorage", "sessionStorage", "indexedDB"]) Object.defineProperty(globalThis, name, { get: refuse });
  });
  await open(page);
  await page.getByText("This browser stores nothing").waitFor();
  await ask(page, "stop");
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.getByLabel("Temperature", { exact: true }).fill("0.5");
  await page.getByRole("button", { name: "New chat" }).click();
  assert.equal(await page.getByLabel("Temperature", { exact: true }).inputValue(), "0.5");
  await page.getByRole("button", { name: "stop", exact: true }).click();
  await page.locator(".markdown", { hasText: "w0 w1 w2 w3" }).waitFor();
});

test("a full browser says so, and keeps the conversation on the page", async (page) => {
  await open(page);
  const session = await page.context().newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin, quotaSize: 1 });
  await send(page, `stop ${"long ".repeat(1000)}`);
  await page.getByText("The browser has no room for the conversation. Export and delete old ones.").waitFor();
  assert.match((await texts(page))[0], /^stop long/);
});
