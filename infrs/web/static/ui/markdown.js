// Markdown to elements: marked parses, DOMPurify removes all that is not text, and nothing loads from other hosts.

import { Marked } from "../vendor/marked.esm.js";
import "../vendor/purify.min.js";
import { codeBlock, isJson, prettyJson } from "./code.js";
import { h } from "./dom.js";

const TAGS = ("a b blockquote br code del details em h3 h4 h5 h6 hr i img input kbd li ol p pre s strong sub summary sup " +
  "table tbody td th thead tr u ul").split(" ");
const ATTRIBUTES = ["align", "alt", "checked", "class", "disabled", "href", "src", "start", "title", "type"];
const SAFE = {
  ALLOWED_TAGS: TAGS,
  ALLOWED_ATTR: ATTRIBUTES,
  ALLOW_DATA_ATTR: false,
  ALLOW_ARIA_ATTR: false,
  ALLOWED_URI_REGEXP: /^(?:https?:|mailto:)/i,
  RETURN_DOM_FRAGMENT: true,
};

const purify = globalThis.DOMPurify;
const marked = new Marked({ gfm: true });
marked.use({
  renderer: {
    // The page's title is h1, a message's author h2.
    heading({ tokens, depth }) {
      const level = Math.min(depth + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>`;
    },
  },
});

/** The element of a Markdown text that grows. Blocks that did not change keep their elements, and so a selection. */
export class Markdown {
  element = h("div", { class: "markdown" });
  raws = [];

  /** Show a text. isFinal: no more follows, so that a reference may look at all of it. */
  update(text, isFinal) {
    if (isJson(text) && (!isFinal || isParsed(text))) return this.showJson(text, isFinal);
    const tokens = marked.lexer(text).filter((token) => token.type !== "space");
    let same = 0;
    if (!isFinal) while (same < tokens.length && tokens[same].raw === this.raws[same]) same += 1;
    const blocks = tokens.slice(same).map((token) => h("div", { class: "block" }, safe(marked.parser([token]))));
    [...this.element.children].slice(same).forEach((block) => block.remove());
    this.element.append(...blocks);
    this.raws = tokens.map((token) => token.raw);
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

function safe(html) {
  const fragment = purify.sanitize(html, SAFE);
  for (const link of fragment.querySelectorAll("a")) setAttributes(link, { target: "_blank", rel: "noopener noreferrer nofollow" });
  for (const image of fragment.querySelectorAll("img")) if (!image.src.startsWith("data:")) image.replaceWith(imageLink(image));
  for (const input of fragment.querySelectorAll("input")) input.replaceWith(input.checked ? "☑ " : "☐ ");
  for (const table of fragment.querySelectorAll("table")) wrapTable(table);
  for (const pre of fragment.querySelectorAll("pre")) pre.replaceWith(blockOf(pre));
  for (const element of fragment.querySelectorAll("[class]:not(.code *, .code)")) element.removeAttribute("class");
  return fragment;
}

function setAttributes(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

/** Return a link in place of an image: loading it would tell its host about the conversation. */
function imageLink(image) {
  const text = `Image: ${image.alt || "without description"}`;
  const address = image.getAttribute("src");
  return address ? h("a", { href: address, target: "_blank", rel: "noopener noreferrer nofollow" }, text) : text;
}

function wrapTable(table) {
  const region = h("div", { class: "table", role: "region", "aria-label": "Table", tabindex: "0" });
  table.replaceWith(region);
  region.append(table);
}

function blockOf(pre) {
  const language = pre.querySelector("code")?.className.match(/language-(\S+)/)?.[1] ?? "";
  return codeBlock(pre.textContent.replace(/\n$/, ""), language);
}
