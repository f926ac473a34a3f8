// The demo model. With SCREENSHOT it writes the picture of the README, at this path.

import assert from "node:assert/strict";

import { ask, open, test } from "../browser.mjs";

test("the demo model answers, with the probabilities of its tokens", async (page) => {
  await open(page);
  await page.getByRole("button", { name: "Settings", exact: true }).click();
  await page.getByLabel("Temperature", { exact: true }).fill("0");
  await page.getByLabel("Token probabilities").selectOption("5");
  const answer = await ask(page, "How many days are in a week?");
  assert.match(await answer.locator(".markdown").innerText(), /7 days/);
  assert.match(await answer.locator(".stats").innerText(), /^\d+ tokens · [\d.]+ tokens\/s · first token [\d.]+ s · prompt \d+/);
  await answer.getByRole("button", { name: "Token probabilities" }).click();
  const token = answer.locator(".token", { hasText: "7" });
  await token.click();
  assert.equal(await answer.locator(".alternatives tr").count(), 5);
  assert.match(await answer.locator(".alternatives .chosen").innerText(), /7[^]*%/);
  if (process.env.SCREENSHOT) await page.screenshot({ path: process.env.SCREENSHOT });
}, { viewport: { width: 1200, height: 700 }, colorScheme: process.env.SCHEME });
