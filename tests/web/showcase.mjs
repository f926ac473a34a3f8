// Conversations that show every part of a message.

const stats = { promptTokens: 812, cachedTokens: 700, tokens: 148, firstToken: 0.21, perSecond: 87.3 };
const model = "fake/words";
const logprobs = [-0.02, -0.3, -0.6, -1, -2, -3];

const TEXT = `## How it works

A **cache** keeps *recent* data. See [the docs](https://example.com/docs).

1. The core asks for an address.
2. The cache looks it up:
   - hit: about \`4\` cycles
   - [x] miss: about \`200\` cycles

\`\`\`python
def reverse_words(sentence: str) -> str:
    """Return the words of a sentence in reverse order."""
    return " ".join(reversed(sentence.split()))  # every word is read once, and no word is copied more than twice
\`\`\`

| planet | radius (km) | moons |
| :-- | --: | --: |
| Mars | 3,390 | 2 |
| Jupiter | 69,911 | 95 |

> A quote with a second thought.

<details><summary>More</summary>A folded text, with H<sub>2</sub>O and <kbd>Esc</kbd>.</details>

***
##### The end`;

const tokens = "The sky is blue because air scatters short waves more.\nThat is all."
  .split(/(?=[ \n])/)
  .map((text, index) => [text, logprobs[index % 6], [[text, logprobs[index % 6]], [" a", -2.3], [" the", -3.1], ["\n", -4.5]]]);

const MARKDOWN = [
  { role: "user", content: "How does a CPU cache work?" },
  { role: "assistant", content: TEXT, model, stats, reasoning: "The user asks about caches.\nI show code.", thought: 3.2, finish: "stop" },
];
const CALLS = [
  { role: "user", content: "What is the weather?" },
  { role: "assistant", content: "", calls: [{ id: "c0", name: "find", arguments: "{}" }], model, stats, finish: "tool_calls" },
  { role: "tool", content: "Paris", callId: "c0", name: "find" },
  { role: "assistant", content: "", calls: [{ id: "c1", name: "get_weather", arguments: '{"city":"Paris"}' }], model, stats, finish: "tool_calls" },
];
const TOKENS = [
  { role: "user", content: "Why is the sky blue?" },
  { role: "assistant", content: tokens.map(([text]) => text).join(""), tokens, model, stats, finish: "length" },
  { role: "user", content: "And at night?" },
  { role: "assistant", content: '{"name": "Ada", "born": 1815}', model, stats, finish: "stopped" },
  { role: "user", content: "Once more" },
  { role: "assistant", content: "", model, error: { message: "The queue is full; try again.", status: 503, code: "queue_full", retryAfter: 2 } },
];

/** Lists of messages. The title of a conversation is its first message. */
export const CONVERSATIONS = [MARKDOWN, CALLS, TOKENS];
