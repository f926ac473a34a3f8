// Opens the page in Chromium. A test fails on any error in the console, any breach of the page's policy and any request to
// another host, unless it expects them.

import assert from "node:assert/strict";
import { after, before, test as nodeTest } from "node:test";

import { chromium } from "../node/node_modules/playwright-core/index.mjs";

export const BASE = process.env.BASE_URL;
const HOST = "127.0.0.1";
const SECONDS = 1000;

let browser;
before(async () => {
  // Chromium's sandbox does not work for root, as in most containers.
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM, args: ["--no-sandbox"] });
});
after(() => browser?.close());

/**
 * Run a test in a browser without any data. options: of the browser's context, and `expected`, a pattern of problems
 * that the test causes on purpose.
 */
export function test(name, run, { expected = null, timeout = 90, ...options } = {}) {
  nodeTest(name, { timeout: timeout * SECONDS }, async () => {
    const context = await browser.newContext({ viewport: { width: 1280, height: 800 }, ...options });
    const problems = [];
    const page = await context.newPage();
    page.setDefaultTimeout(30 * SECONDS);
    page.on("pageerror", (error) => problems.push(`uncaught: ${error.stack}`));
    page.on("console", (message) => {
      if (message.type() === "error") problems.push(message.text());
    });
    page.on("request", (request) => {
      if (!/^(data|blob):/.test(request.url()) && new URL(request.url()).hostname !== HOST) {
        problems.push(`request to ${request.url()}`);
      }
    });
    try {
      await run(page);
      assert.deepEqual(problems.filter((problem) => !expected?.test(problem)), []);
    } finally {
      await context.close();
    }
  });
}

/** Open the page of a server and wait until it has asked for the models. */
export async function open(page, { base } = { base: BASE }) {
  await page.goto(`${base}/`);
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
  await element.locator(".markdown[aria-busy]").waitFor({ state: "detached" });
  return element;
}

/** Have the server answer the next chat requests with a text, in pieces of `size` characters. */
export async function script(page, text, { size = 4000, delta = "content", ...choice } = {}) {
  const pieces = text.match(new RegExp(`[^]{1,${size}}`, "g")) ?? [""];
  const chunks = pieces.map((piece) => ({ choices: [{ delta: { [delta]: piece } }] }));
  chunks.push({ choices: [{ delta: {}, finish_reason: "stop", ...choice }] });
  const events = [...chunks.map((chunk) => JSON.stringify(chunk)), "[DONE]"].map((data) => `data: ${data}\n\n`);
  await page.route("**/v1/chat/completions", (route) => route.fulfill({ contentType: "text/event-stream", body: events.join("") }));
}

/** Import conversations: lists of messages. */
export async function give(page, conversations) {
  const file = { format: "infrs-conversations", version: 1, conversations: conversations.map((messages) => ({ title: messages[0].content, messages })) };
  await page.setInputFiles("#import-file", { name: "a.json", mimeType: "application/json", buffer: Buffer.from(JSON.stringify(file)) });
  await page.getByText(`Imported ${conversations.length} `).waitFor();
  await page.locator(".markdown[aria-busy]").first().waitFor({ state: "detached" });
}
