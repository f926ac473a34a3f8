// What a screenshot would show: only the panels scroll, and the view of tokens breaks lines as the text does.

import assert from "node:assert/strict";

import { give, open, test } from "../browser.mjs";
import { CONVERSATIONS } from "../showcase.mjs";

const [, , TOKENS] = CONVERSATIONS;

for (const viewport of [{ width: 1280, height: 800 }, { width: 390, height: 844 }]) {
  test(`the frame stays in place, ${viewport.width} pixels wide`, async (page) => {
    await open(page);
    await give(page, [TOKENS]);
    await page.getByRole("button", { name: "Token probabilities" }).click();
    await page.locator(".token").first().click();
    await page.evaluate(() => [...document.querySelectorAll("article")].at(-1).scrollIntoView());
    for (const selector of [".app", ".center"]) {
      const [size, seen] = await page.locator(selector).evaluate((element) => [element.scrollHeight, element.clientHeight]);
      assert.equal(size, seen, selector);
    }
    assert.equal(await page.locator("header.top").evaluate((element) => element.getBoundingClientRect().top), 0);
  }, { viewport });
}

test("a token with a line break ends its line, and shows all of its text", async (page) => {
  const texts = ["One", ".\n", "Two", "\nThree"];
  const tokens = texts.map((text) => [text, -1, []]);
  await open(page);
  await give(page, [[{ role: "user", content: "Count" }, { role: "assistant", content: texts.join(""), tokens, finish: "stop" }]]);
  await page.getByRole("button", { name: "Token probabilities" }).click();
  const shown = page.locator(".token");
  assert.deepEqual(await shown.allTextContents(), ["One", ".⏎\n", "Two", "⏎\nThree"]);
  const tops = await shown.evaluateAll((elements) => elements.map((element) => element.getClientRects()[0].top));
  const last = await shown.last().evaluate((element) => [...element.getClientRects()].at(-1).top);
  assert.equal(tops[0], tops[1]);
  assert.ok(tops[1] < tops[2] && tops[2] === tops[3] && tops[3] < last, `${tops} ${last}`);
});
