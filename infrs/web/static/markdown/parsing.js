// The page's side of the worker that parses Markdown: one text at a time, each within a time limit.

const MOST_MS = 2000;

let worker = null;
let last = Promise.resolve();

/** Return the blocks of a text, see markdown/parser.js; null if it has none within the time limit. */
export function parse(text) {
  const blocks = last.then(() => parseNow(text));
  last = blocks;
  return blocks;
}

function parseNow(text) {
  worker ??= new Worker(new URL("parser.js", import.meta.url), { type: "module" });
  return new Promise((resolve) => {
    const end = (blocks) => (clearTimeout(late), resolve(blocks));
    const fail = () => (worker.terminate(), (worker = null), end(null));
    const late = setTimeout(fail, MOST_MS);
    worker.onmessage = ({ data }) => end(data);
    worker.onerror = fail;
    worker.postMessage(text);
  });
}
