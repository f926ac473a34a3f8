// The element of a Markdown text that grows. A worker parses, DOMPurify removes all that is not text.

import "../vendor/purify.min.js";
import { codeBlock, isJson, prettyJson } from "./code.js";
import { h } from "../dom/dom.js";
import { parse } from "./parsing.js";

const TAGS = ("a b blockquote br code del details em h3 h4 h5 h6 hr i img input kbd li ol p pre s strong sub summary sup " +
  "table tbody td th thead tr u ul").split(" ");
const ATTRIBUTES = ["align", "alt", "checked", "class", "disabled", "href", "src", "start", "title", "type"];
const SAFE = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ATTRIBUTES,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ADD_URI_SAFE_ATTR: ["align", "checked", "disabled", "start", "type"],
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM: true, // in a document of its own, where no image loads
};
const REST = 4; // the least pause between two updates, as a multiple of the time that the last one took

const purify = globalThis.DOMPurify;

/** Blocks that did not change keep their elements, and so a selection. `aria-busy` is true until all of the text is shown. */
export class Markdown {
  element = h("div", { class: "markdown" });
  raws = [];
  text = null; // what the element will show
  isWorking = false;
  isPlain = false; // the text took too long

  /** Show a text soon. isFinal: no more follows, so that a reference may look at all of it. */
  update(text, isFinal) {
    if (this.text === text && this.isFinal === isFinal) return;
    Object.assign(this, { text, isFinal });
    this.element.setAttribute("aria-busy", "true");
    if (!this.isWorking) this.work();
  }

  async work() {
    this.isWorking = true;
    for (let text, isFinal; text !== this.text || isFinal !== this.isFinal; ) {
      ({ text, isFinal } = this);
      const isObject = isJson(text) && (!isFinal || isParsed(text));
      const blocks = isObject || this.isPlain ? null : await parse(text);
      const started = performance.now();
      if (isObject) this.showJson(text, isFinal);
      else if (blocks) this.showBlocks(blocks, isFinal);
      else this.showPlain(text);
      if (!isFinal) await new Promise((resolve) => setTimeout(resolve, (performance.now() - started) * REST));
    }
    this.isWorking = false;
    this.element.removeAttribute("aria-busy");
  }

  showBlocks(blocks, isFinal) {
    let same = 0;
    if (!isFinal) while (same < blocks.length && blocks[same].raw === this.raws[same]) same += 1;
    const elements = blocks.slice(same).map(({ html }) => h("div", { class: "block" }, safe(html)));
    [...this.element.childNodes].slice(same).forEach((node) => node.remove());
    this.element.append(...elements);
    this.raws = blocks.map(({ raw }) => raw);
  }

  showPlain(text) {
    this.isPlain = true;
    this.element.replaceChildren(h("div", { class: "plain" }, text));
  }

  showJson(text, isFinal) {
    this.element.replaceChildren(codeBlock(isFinal ? prettyJson(text) : text, "json"));
    this.raws = [];
  }
}

function isParsed(text) {
  try {
    JSON.parse(text);
    return true;
  } catch {
    return false;
  }
}

/** Return the nodes of an HTML text that nobody vouches for. */
function safe(html) {
  const fragment = purify.sanitize(html, SAFE);
  for (const link of fragment.querySelectorAll("a")) setAttributes(link, { target: "_blank", rel: "noopener noreferrer nofollow" });
  for (const image of fragment.querySelectorAll("img:not([src^='data:image/'])")) image.replaceWith(imageLink(image));
  for (const input of fragment.querySelectorAll("input")) input.replaceWith(input.checked ? "☑ " : "☐ ");
  for (const element of fragment.querySelectorAll("[class]:not(pre > code)")) element.removeAttribute("class");
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(blockOf(pre));
  for (const table of fragment.querySelectorAll("table")) wrapTable(table);
  return [...fragment.childNodes];
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

/** Return a link in place of an image: loading it would tell its host about the conversation. */
function imageLink(image) {
  const text = `Image: ${image.alt || "without description"}`;
  const address = image.getAttribute("src");
  return /^https?:/i.test(address) ? h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, text) : text;
}

function wrapTable(table) {
  const region = h("div", { class: "table", role: "group", "aria-label": "Table", tabindex: "0" });
  table.replaceWith(region);
  region.append(table);
}

function blockOf(pre) {
  const language = pre.querySelector("code")?.className.match(/language-(\S+)/)?.[1] ?? "";
  return codeBlock(pre.textContent.replace(/\n$/, ""), language);
}
