// Answers that attack the page: nothing of them runs, nothing loads from another host, and the page stays quick.

import assert from "node:assert/strict";

import { BASE, ask, open, script, test } from "../browser.mjs";

const HOST = "https://evil.example";
const POLICY = /Content Security Policy|violates/;
const RUN = "globalThis.ran = true";

const ATTACKS = [
  `<script>${RUN}</script>`,
  `<script src="${HOST}/a.js"></script>`,
  `<img src=x onerror="${RUN}">`,
  `<img src="${HOST}/pixel.png" srcset="${HOST}/b.png 2x">`,
  `![pixel](${HOST}/pixel.png "title")`,
  `[a](javascript:${RUN})`, `[a](JaVaScRiPt&colon;${RUN})`, `[a](&#106;avascript:${RUN})`, `<a href="java\tscript:${RUN}">a</a>`,
  `[a](vbscript:x) [b](data:text/html,<script>${RUN}</script>) [c](file:///etc/passwd) [d](blob:x) [e](/v1/models) [f](#x)`,
  `<javascript:${RUN}>`,
  `<svg onload="${RUN}"><script>${RUN}</script><use href="${HOST}/a.svg#b"/><animate onbegin="${RUN}"/></svg>`,
  `<math><mtext><table><mglyph><style><!--</style><img title="--&gt;&lt;img src=1 onerror=${RUN}&gt;">`,
  `<math href="javascript:${RUN}">a</math><maction actiontype="statusline#${HOST}">b</maction>`,
  `<iframe src="${HOST}"></iframe><iframe srcdoc="<script>parent.ran=true</script>"></iframe><object data="${HOST}"></object><embed src="${HOST}">`,
  `<form action="${HOST}" id="app"><input name="body"><button formaction="javascript:${RUN}">b</button></form>`,
  `<input type="image" src="${HOST}/i.png"><video src="${HOST}/v.mp4" poster="${HOST}/p.png" autoplay></video><audio src="${HOST}/a.mp3" autoplay>`,
  `<style>@import "${HOST}/a.css"; * { background: url(${HOST}/b.png) }</style><link rel="stylesheet" href="${HOST}/a.css">`,
  `<p style="background: url(${HOST}/b.png); position: fixed; inset: 0">over</p>`,
  `<base href="${HOST}"><meta http-equiv="refresh" content="0; url=${HOST}">`,
  `<details open ontoggle="${RUN}"><summary onclick="${RUN}" autofocus onfocus="${RUN}" tabindex=0>s</summary></details>`,
  `<a id="app" name="getElementById" class="shade" href="${HOST}" ping="${HOST}/ping" download target="_top">clobber</a>`,
  `<template><img src=x onerror="${RUN}"></template><noscript><p title="</noscript><img src=x onerror=${RUN}>">`,
  `<dialog open>d</dialog><marquee onstart="${RUN}">m</marquee><body onload="${RUN}"><frameset onload="${RUN}">`,
  "```html\n<script>" + RUN + "</script>\n```",
  "```<img/src=x/onerror=" + RUN + ">\ncode\n```",
  `<div slot="x"><custom-element onclick="${RUN}"></custom-element></div><button popovertarget="app">b</button>`,
  `{"a": "<img src=x onerror=${RUN}>"}`,
];

/** What an answer may have become. */
function inspect() {
  const found = [...document.querySelectorAll(".markdown *")];
  const attributes = found.flatMap((element) => [...element.attributes].map(({ name, value }) => [element.localName, name, value]));
  return {
    ran: globalThis.ran ?? false,
    tags: [...new Set(found.map((element) => element.localName))],
    handlers: attributes.filter(([, name]) => name.startsWith("on") || ["style", "srcset", "name", "id", "ping", "download"].includes(name)),
    addresses: attributes.filter(([, name]) => ["src", "href", "action", "formaction"].includes(name)).map(([tag, , value]) => [tag, value]),
    targets: found.filter((element) => element.matches("a:not([target=_blank][rel~=noopener])")).length,
  };
}

test("no attack runs, loads or names another element", async (page) => {
  await open(page);
  for (const [index, attack] of ATTACKS.entries()) {
    await page.unroute("**/v1/chat/completions");
    await script(page, `${attack}\n\nend ${index}`, { size: 7 });
    const text = await (await ask(page, `attack ${index}`)).innerText();
    assert.ok(text.includes(`end ${index}`) || attack.includes("<template>"), `${attack} hid what follows: ${text}`);
  }
  // The same texts again as one document, after a reload.
  await page.reload();
  await page.locator("#conversations .title").click();
  await page.locator(".markdown[aria-busy]").first().waitFor({ state: "detached" });
  for (const link of await page.locator(".markdown summary").all()) await link.click();
  const { ran, tags, handlers, addresses, targets } = await page.evaluate(inspect);
  assert.equal(ran, false);
  assert.deepEqual(handlers, []);
  assert.equal(targets, 0);
  const refused = /^(script|iframe|object|embed|form|style|link|base|meta|svg|math|video|audio|template|dialog|img|input|body)$/;
  assert.deepEqual(tags.filter((tag) => refused.test(tag)), ["svg"]); // the icon of the copy button
  for (const [tag, address] of addresses) assert.ok(tag === "a" && address.startsWith(HOST), `${tag} has ${address}`);
}, { expected: POLICY }); // Chromium checks the policy in DOMPurify's document too

const deep = Array.from({ length: 400 }, (_, level) => `${"  ".repeat(level)}- a`).join("\n");
const SLOW = {
  "nested quotes": `${">".repeat(20_000)} a`,
  "nested lists": `${"- ".repeat(20_000)}a`,
  "an indented list": deep,
  "open emphasis": "**a_".repeat(5000),
  "words with underscores": "a_".repeat(50_000),
  "an address without an end": `${"a".repeat(50_000)}@`,
  "open links": "[a](<b".repeat(20_000),
  "a wide table": `${"|a".repeat(20_000)}\n${"|-".repeat(20_000)}\n${"|b".repeat(20_000)}`,
  "many items": "- [ ] a\n".repeat(20_000),
  "a code block of 1 MB": "```python\n" + "print('a line of a long program')\n".repeat(31_000) + "```\n\na",
};

test("the page answers while it shows texts that take a parser minutes", async (page) => {
  await open(page);
  await page.evaluate(() => {
    let last = performance.now();
    globalThis.stood = 0;
    setInterval(() => {
      globalThis.stood = Math.max(globalThis.stood, performance.now() - last);
      last = performance.now();
    });
  });
  for (const [name, text] of Object.entries(SLOW)) {
    await page.unroute("**/v1/chat/completions");
    await script(page, text, { size: 50_000 });
    await page.getByRole("button", { name: "New chat" }).click();
    const shown = await (await ask(page, name)).locator(".markdown").textContent();
    assert.ok(shown.includes(text.slice(-1).trim() || "a"), name);
    const stood = await page.evaluate(() => [globalThis.stood, (globalThis.stood = 0)][0]);
    if (process.env.VERBOSE) console.log(`# ${name}: ${Math.round(stood)} ms`);
    assert.ok(stood < 10_000, `${name}: the page stood still for ${stood} ms`);
  }
}, { timeout: 180 });

test("the policy of the response header blocks other hosts and inline code", async (page) => {
  const response = await page.request.get(BASE, { headers: { accept: "text/html" } });
  const policy = Object.fromEntries(response.headers()["content-security-policy"].split("; ").map((rule) => rule.split(/ (.*)/)));
  assert.deepEqual(policy, {
    "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "connect-src": "'self'", "img-src": "'self' data:",
    "base-uri": "'none'", "form-action": "'none'", "frame-ancestors": "'none'",
  });
  await open(page);
  const blocked = await page.evaluate(async (host) => {
    const seen = [];
    document.addEventListener("securitypolicyviolation", (event) => seen.push(event.effectiveDirective));
    await fetch(host).catch(() => {});
    document.body.append(Object.assign(document.createElement("img"), { src: `${host}/a.png` }));
    document.body.append(Object.assign(document.createElement("script"), { textContent: "globalThis.ran = true" }));
    await new Promise((resolve) => setTimeout(resolve, 300));
    return [seen.map((name) => name.split("-")[0]).sort(), globalThis.ran];
  }, HOST);
  assert.deepEqual(blocked, [["connect", "img", "script"], undefined]);
}, { expected: new RegExp(`${POLICY.source}|${HOST}/a.png`) });
