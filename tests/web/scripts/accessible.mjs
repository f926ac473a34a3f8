// axe finds nothing in any state of the page, in both themes and at both widths.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";

import { give, open, test } from "../browser.mjs";
import { CONVERSATIONS } from "../showcase.mjs";

const AXE = await readFile(new URL("../../node/node_modules/axe-core/axe.min.js", import.meta.url), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"];
const DESKTOP = { width: 1280, height: 800 };
const PHONE = { width: 390, height: 844 };

/** Return what axe finds, each with the state of the page. */
async function check(page, state) {
  await page.evaluate(() => document.getElementById("notices").replaceChildren());
  return page.evaluate(async ([given, tags]) => {
    const { violations } = await globalThis.axe.run(document, { runOnly: tags, resultTypes: ["violations"] });
    return violations.map(({ id, nodes }) => [given, id, ...nodes.map((node) => `${node.html} ${node.failureSummary}`)]);
  }, [state, TAGS]);
}

for (const [width, viewport] of [["desktop", DESKTOP], ["phone", PHONE]]) {
  for (const colorScheme of ["light", "dark"]) {
    test(`axe finds nothing: ${width}, ${colorScheme}`, async (page) => {
      const isPhone = viewport === PHONE;
      const found = [];
      await open(page);
      await page.evaluate(AXE);
      found.push(...await check(page, "welcome"));
      await give(page, CONVERSATIONS);
      const choose = async (title) => {
        if (isPhone) await page.click("#sidebar-toggle");
        await page.locator("#conversations .title", { hasText: title }).click();
      };
      await page.evaluate(() => document.querySelectorAll("details").forEach((details) => (details.open = true)));
      found.push(...await check(page, "Markdown"));
      await choose("weather");
      found.push(...await check(page, "calls"));
      await choose("sky");
      found.push(...await check(page, "notes and an error"));
      await page.getByRole("button", { name: "Token probabilities" }).click();
      await page.locator(".token").nth(4).click();
      found.push(...await check(page, "token probabilities"));
      await page.getByRole("button", { name: "Edit message" }).first().click({ force: true });
      found.push(...await check(page, "editor"));
      await page.getByRole("button", { name: "Cancel" }).click();
      if (isPhone) {
        await page.click("#sidebar-toggle");
        found.push(...await check(page, "sidebar"));
        await page.keyboard.press("Escape");
      }
      await page.click("#settings-toggle");
      await page.getByLabel("More fields").fill("{");
      await page.getByLabel("More fields").blur();
      found.push(...await check(page, "settings"));
      await page.getByRole("button", { name: "API key" }).click();
      found.push(...await check(page, "dialog of the key"));
      await page.keyboard.press("Escape");
      await page.evaluate(() => document.getElementById("shortcuts-dialog").showModal());
      found.push(...await check(page, "dialog of the shortcuts"));
      assert.deepEqual(found, []);
    }, { viewport, colorScheme, timeout: 180 });
  }
}
