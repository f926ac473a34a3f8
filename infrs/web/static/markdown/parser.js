// Markdown to HTML in a worker: a text that a parser takes minutes for cannot freeze the page.

import { Marked } from "../vendor/marked.esm.js";

const MOST_TAGS = 10_000; // the page would need seconds to show more
const LONGEST_HTML = 4_000_000; // characters
let depths = []; // of the headings that the current one is below
const marked = new Marked({ gfm: true });
marked.use({
  renderer: {
    // The page's title is h1, a message's author h2. No level is left out, as assistive technology expects.
    heading({ tokens, depth }) {
      depths = [...depths.filter((above) => above < depth), depth];
      const level = Math.min(depths.length + 2, 6);
      return `<h${level}>${this.parser.parseInline(tokens)}</h${level}>\n`;
    },
  },
});

/** Return the blocks of a text, [{ raw, html }]. Their HTML is not safe yet. Return null if there is too much of it. */
export function parseBlocks(text) {
  depths = [];
  try {
    const tokens = marked.lexer(text).filter((token) => token.type !== "space");
    const blocks = tokens.map((token) => ({ raw: token.raw, html: marked.parser([token]) }));
    const sum = (measure) => blocks.reduce((total, { html }) => total + measure(html), 0);
    const isLarge = sum((html) => html.length) > LONGEST_HTML || sum((html) => html.split("<").length - 1) > MOST_TAGS;
    return isLarge ? null : blocks;
  } catch {
    return null; // the parser calls itself for each level, and the stack has an end
  }
}

globalThis.addEventListener?.("message", ({ data }) => postMessage(parseBlocks(data)));
