// The page without a mouse, and what assistive technology hears of it.

import assert from "node:assert/strict";

import { ask, give, open, send, answer, test } from "../browser.mjs";
import { CONVERSATIONS } from "../showcase.mjs";

const focused = (page) => page.evaluate(() => {
  const { id, textContent, ariaLabel } = document.activeElement;
  return ariaLabel || textContent.trim() || id;
});
const PHONE = { viewport: { width: 390, height: 844 } };

test("Tab reaches every control, each with a visible focus", async (page) => {
  await open(page);
  await give(page, CONVERSATIONS);
  await page.locator("#conversations .title", { hasText: "sky" }).click();
  await page.keyboard.press("Control+Shift+e");
  assert.equal(await focused(page), "Close the settings");
  const wanted = await page.evaluate(() => {
    document.activeElement.blur();
    const controls = [...document.querySelectorAll("button, input, select, textarea, a, summary, [tabindex='0']")];
    const usable = controls.filter((control) => control.checkVisibility() && !control.disabled && control.tabIndex >= 0);
    return usable.map((control, index) => (control.dataset.seen = index)).length;
  });
  const seen = new Set();
  const hidden = [];
  for (let presses = 0; presses < wanted + 20 && seen.size < wanted; presses += 1) {
    await page.keyboard.press("Tab");
    const [index, name, isVisible] = await page.evaluate(() => {
      const { activeElement: element } = document;
      const styles = [element, element.parentElement].map((each) => getComputedStyle(each));
      const isShown = styles.some((style) => style.outlineStyle !== "none" || style.boxShadow !== "none");
      const opacity = Number(getComputedStyle(element.closest(".actions") ?? element).opacity);
      return [element.dataset.seen, element.outerHTML, isShown && opacity === 1];
    });
    if (index !== undefined) seen.add(index);
    if (!isVisible) hidden.push(name);
  }
  assert.equal(seen.size, wanted);
  assert.deepEqual(hidden.filter((html) => !html.startsWith("<body")), []);
});

test("a conversation needs no mouse, and the focus is never lost", async (page) => {
  await open(page);
  assert.equal(await focused(page), "Message");
  await page.keyboard.type("stop one");
  await page.keyboard.press("Enter");
  const first = await answer(page);
  assert.equal(await focused(page), "Message");

  const press = async (scope, name) => (await scope.getByRole("button", { name, exact: true }).focus(), page.keyboard.press("Enter"));
  const user = page.locator("article.user");
  await press(user, "Edit message");
  assert.equal(await focused(page), "Text of the message");
  await page.keyboard.press("Escape");
  assert.equal(await focused(page), "Edit message");
  await press(user, "Edit message");
  await page.keyboard.type(" again");
  await page.keyboard.press("Control+Enter");
  assert.equal(await focused(page), "Message");
  await answer(page);

  await press(page.locator("article.assistant"), "Regenerate");
  await answer(page);
  assert.equal(await focused(page), "Message");
  await press(page.locator("article.assistant"), "Delete message");
  await page.getByText("Message deleted.").waitFor();
  assert.equal(await focused(page), "Message");
  await press(page, "Undo");
  await first.waitFor();
  assert.equal(await focused(page), "Message");

  const list = page.locator("#conversations");
  await press(list, "Rename stop one");
  await page.keyboard.type("Named");
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "Named");
  await press(list, "Delete Named");
  await page.getByText("Conversation deleted.").waitFor();
  assert.equal(await focused(page), "Message");
  await press(page, "Undo");
  await page.getByText("Named", { exact: true }).waitFor();
  assert.equal(await focused(page), "Message");
});

test("Escape closes what is open, and the focus returns", async (page) => {
  await open(page);
  const settings = page.locator("#settings-toggle");
  await settings.focus();
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "Close the settings");
  await page.getByRole("button", { name: "API key" }).focus();
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "key");
  await page.keyboard.press("Escape");
  assert.equal(await focused(page), "API key");
  await page.keyboard.press("Escape");
  assert.ok(await page.locator("#settings").isHidden());
  assert.equal(await focused(page), "Settings");
  await page.keyboard.press("?");
  await page.getByRole("dialog", { name: "Keyboard shortcuts" }).waitFor();
  await page.keyboard.press("Escape");
  assert.equal(await focused(page), "Settings");
  await page.keyboard.press("/");
  assert.equal(await focused(page), "Message");
});

test("a panel over the page keeps the focus inside", async (page) => {
  await open(page);
  for (const [button, close] of [["sidebar-toggle", "Close the list of conversations"], ["settings-toggle", "Close the settings"]]) {
    await page.locator(`#${button}`).focus();
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), close);
    assert.ok(await page.evaluate(() => document.getElementById("center").inert));
    await page.keyboard.press("Escape");
    assert.equal(await page.evaluate(() => document.activeElement.id), button);
    assert.ok(!(await page.evaluate(() => document.getElementById("center").inert)));
  }
}, PHONE);

test("keys choose tokens and move between them", async (page) => {
  await open(page);
  await give(page, [CONVERSATIONS[2]]);
  await page.getByRole("button", { name: "Token probabilities" }).focus();
  await page.keyboard.press("Enter");
  assert.equal(await focused(page), "Token probabilities");
  for (const [index, key] of [[2, "Space"], [0, "Enter"]]) {
    const token = page.locator(".token").nth(index);
    await token.focus();
    assert.equal(await token.getAttribute("aria-pressed"), "false");
    await page.keyboard.press(key);
    assert.equal(await token.getAttribute("aria-pressed"), "true");
  }
  await page.keyboard.press("ArrowRight");
  assert.match(await focused(page), /^␣sky, 74 %$/);
  assert.match(await page.locator(".alternatives[aria-live=polite]").innerText(), /␣sky/);
});

test("a screen reader hears an answer once, not token by token", async (page) => {
  await open(page);
  await page.evaluate(() => {
    globalThis.heard = [];
    const live = [...document.querySelectorAll("[aria-live], [role=status], [role=alert], [role=log]")];
    const listen = (region) => globalThis.heard.push(region.textContent);
    for (const region of live) new MutationObserver(() => listen(region)).observe(region, { childList: true, characterData: true, subtree: true });
  });
  await ask(page, "stop");
  await page.waitForFunction(() => globalThis.heard.length >= 2);
  assert.deepEqual(await page.evaluate(() => globalThis.heard), ["Generating an answer", "Answer: w0 w1 w2 w3 "]);
  assert.equal(await page.locator("main [aria-live]:not(.alternatives)").count(), 0);
});

test("nothing moves for a user who wants less motion", async (page) => {
  await open(page);
  await send(page, "many words");
  await page.getByText("w3 ").waitFor();
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);
  await page.keyboard.press("Escape");
}, { reducedMotion: "reduce" });
