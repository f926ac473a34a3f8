// Opens the page in Chromium. A test fails on any error in the console, any breach of the page's policy and any request to
// another host, unless it expects them.

import assert from "node:assert/strict";
import { after, before, test as nodeTest } from "node:test";

import { chromium } from "../node/node_modules/playwright-core/index.mjs";

export const BASE = process.env.BASE_URL;
const SECONDS = 1000;

let browser;
before(async () => {
  // Chromium's sandbox does not work for root, as in most containers.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
});
after(() => browser?.close());

/**
 * Run a test in a browser without any data. options: of the browser's context, and `expected`, a pattern of console errors
 * that the test causes on purpose.
 */
export function test(name, run, { expected = null, ...options } = {}) {
  nodeTest(name, { timeout: 40 * SECONDS }, async () => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const problems = [];
    const page = await context.newPage();
    page.setDefaultTimeout(15 * SECONDS);
    page.on("pageerror", (error) => problems.push(`uncaught: ${error.stack}`));
    page.on("console", (message) => {
      if (message.type() === "error" && !expected?.test(message.text())) problems.push(message.text());
    });
    page.on("request", (request) => {
      if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).origin !== new URL(BASE).origin) {
        problems.push(`request to ${request.url()}`);
      }
    });
    try {
      await run(page);
      assert.deepEqual(problems, []);
    } finally {
      await context.close();
    }
  });
}

/** Open the page and wait until it has asked the server for its models. */
export async function open(page, path = "/") {
  await page.goto(BASE + path);
  await page.waitForSelector("[data-started]");
}

/** Send a message with the keyboard. */
export async function send(page, text) {
  await page.fill("#prompt", text);
  await page.press("#prompt", "Enter");
}

/** Send a message and return the element of the complete answer. */
export async function ask(page, text) {
  const count = await page.locator("article.assistant").count();
  await send(page, text);
  return answer(page, count);
}

/** Return the answer of an index, the first one if it is not given, when it is complete. */
export async function answer(page, index = 0) {
  const element = page.locator("article.assistant").nth(index);
  await element.locator(".actions").waitFor({ state: "attached" });
  return element;
}
