// The modules without a page, under Node.

import assert from "node:assert/strict";
import { test } from "node:test";

const load = (name) => import(`../../../infrs/web/static/${name}.js`);
const { mergeMessages, sameObjects } = await load("data/merge");
const { chatModels, modelNotice, optionText, serverNotice } = await load("data/models");
const { addMessage, newConversation, removeMessage, requestBody, titleOf } = await load("data/conversation");
const { parseFields, samplingFields } = await load("data/sampling");
const { exportText, importText } = await load("data/transfer");
const { Answer } = await load("net/answer");
const { dataOf, eventTexts } = await load("net/sse");
const { percent, statsLine, visible } = await load("thread/format");
const { parseBlocks } = await load("markdown/parser");

const list = (text) => [...text].map((id) => ({ id }));

for (const [name, ours, stored, known, merged] of [
  ["nothing stored", "ab", "", "", "ab"],
  ["nothing new", "ab", "ab", "ab", "ab"],
  ["another tab appended", "ab", "abcd", "ab", "abcd"],
  ["both appended", "abxy", "abcd", "ab", "abcdxy"],
  ["another tab inserted", "abx", "acb", "ab", "acbx"],
  ["this tab removed", "a", "ab", "ab", "a"],
  ["this tab removed, another appended", "a", "abc", "ab", "ac"],
  ["both began", "ab", "cd", "", "cdab"],
]) {
  test(`tabs merge: ${name}`, () => {
    const result = mergeMessages(list(ours), list(stored), new Set(known));
    assert.equal(result.map(({ id }) => id).join(""), merged);
  });
}

test("a message that did not change stays the same object", () => {
  const ours = list("ab");
  const shown = sameObjects(ours, [{ id: "a" }, { id: "b", content: "new" }]);
  assert.equal(shown[0], ours[0]);
  assert.deepEqual(shown[1], { id: "b", content: "new" });
});

test("models are described in words", () => {
  const models = [
    { id: "a", type: "llm", status: { value: "loaded" } }, { id: "b", status: { value: "unloaded" } },
    { id: "c", type: "embeddings", status: { value: "loaded" } }, { id: "d", type: "llm", status: { value: "failed", error: "It is damaged." } },
    { id: "e", type: "llm", status: { value: "loading" } }, { id: "f" },
  ];
  const chat = chatModels(models);
  assert.deepEqual(chat.map(optionText), ["a", "b (not loaded)", "d (failed)", "e (loading…)", "f"]);
  assert.deepEqual(chat.map(modelNotice), ["", "", "d is not loaded. It is damaged.", "e is loading…", ""]);
  assert.equal(serverNotice(models), "");
  assert.match(serverNotice([]), /^This server has no model\./);
  assert.equal(serverNotice([models[2]]), "This server has no chat model, only c.");
});

test("a conversation becomes a request", () => {
  const conversation = newConversation("m", { system: "Be brief.", sampling: { temperature: "0", top_k: " " }, alternatives: 5, extra: '{"stop": ["x"]}' });
  addMessage(conversation, "user", "Hi\nthere");
  addMessage(conversation, "assistant", ""); // it failed
  addMessage(conversation, "assistant", "", { calls: [{ id: "c", name: "f", arguments: "{}" }] });
  const last = addMessage(conversation, "tool", "4", { callId: "c" });
  const { messages, stream_options: _, ...rest } = requestBody(conversation);
  assert.deepEqual(rest, { model: "m", temperature: 0, logprobs: true, top_logprobs: 5, stop: ["x"] });
  assert.deepEqual(messages, [
    { role: "system", content: "Be brief." }, { role: "user", content: "Hi\nthere" },
    { role: "assistant", content: null, tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }] },
    { role: "tool", content: "4", tool_call_id: "c" },
  ]);
  assert.equal(conversation.title, "Hi");
  assert.equal(removeMessage(conversation, last.id).length, 1);
  assert.equal(removeMessage(conversation, "none").length, 0);
  assert.equal(titleOf("x".repeat(100)).length, 60);
});

test("fields of the settings are numbers and JSON", () => {
  assert.deepEqual(samplingFields({ temperature: "0.5", top_p: "", top_k: "x", seed: "7", other: "1" }), { temperature: 0.5, seed: 7 });
  assert.deepEqual(parseFields(" "), {});
  for (const text of ["[]", "1", "null", "{", '"a"']) assert.throws(() => parseFields(text), SyntaxError);
});

test("a file of conversations comes back the same", () => {
  const conversation = newConversation("m");
  addMessage(conversation, "user", "Hi");
  addMessage(conversation, "assistant", "Hello", { tokens: [["Hello", -0.1, [["Hello", -0.1]]]], finish: "stop" });
  const [read] = importText(exportText([conversation]));
  const plain = ({ messages }) => messages.map(({ id, ...rest }) => rest);
  assert.deepEqual(plain(read), plain(conversation));
  assert.notEqual(read.id, conversation.id);
});

test("events arrive in any pieces", async () => {
  const bytes = new TextEncoder().encode('data: {"a":"é"}\n\n: comment\n\ndata: b\ndata:c\n\nevent: x\n\ndata: [DONE]\n\ndata: cut');
  for (const size of [1, 3, 1000]) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) => bytes.slice(index * size, (index + 1) * size));
    const texts = [];
    for await (const text of eventTexts(ReadableStream.from(pieces))) texts.push(text);
    assert.deepEqual(texts, ['{"a":"é"}', "b\nc", "[DONE]"]);
  }
  assert.equal(dataOf(": keep-alive"), "");
});

test("an answer collects its chunks and measures the time", () => {
  let now = 0;
  const message = { content: "" };
  const answer = new Answer(message, () => now);
  const add = (milliseconds, delta, more = {}, usage) => {
    now += milliseconds;
    answer.add({ choices: [{ delta, ...more }], ...(usage && { usage: { prompt_tokens: 9, completion_tokens: usage } }) });
  };
  add(100, { reasoning_content: "Hm." }, {}, 1);
  add(400, { content: "Hel" }, {}, 2);
  add(500, { content: "lo" }, { logprobs: { content: [{ token: "lo", logprob: -1 }] } }, 3);
  add(0, { tool_calls: [{ index: 0, id: "c", function: { name: "f", arguments: '{"a"' } }] });
  add(0, { tool_calls: [{ index: 0, function: { arguments: ":1}" } }] }, { finish_reason: "tool_calls" });
  assert.deepEqual(message, {
    content: "Hello", reasoning: "Hm.", thought: 0.5, tokens: [["lo", -1, []]], finish: "tool_calls",
    calls: [{ id: "c", name: "f", arguments: '{"a":1}' }],
    stats: { promptTokens: 9, cachedTokens: 0, tokens: 3, firstToken: 0.1, perSecond: 2 / 0.9 },
  });
});

test("numbers are short", () => {
  assert.equal(statsLine({ tokens: 1234, perSecond: 87.32, firstToken: 0.2134, promptTokens: 9, cachedTokens: 4 }),
    "1,234 tokens · 87.3 tokens/s · first token 0.21 s · prompt 9, 4 cached");
  assert.equal(statsLine({ tokens: 1, perSecond: null, firstToken: null, promptTokens: 9, cachedTokens: 0 }), "1 token · prompt 9");
  assert.deepEqual([1, 0.123, 0.00001, 0].map(percent), ["100 %", "12 %", "<0.01 %", "0 %"]);
  assert.deepEqual([" a\n", "", "\t"].map(visible), ["␣a⏎", "∅", "⇥"]);
});

test("headings leave out no level, and a text with too many levels has no blocks", () => {
  const levels = (text) => parseBlocks(text).map(({ html }) => html.match(/<h(\d)/)[1]).join("");
  for (const [text, expected] of [["## a\n## b", "33"], ["# a\n### b\n## c\n# d", "3443"], ["###### a", "3"]]) assert.equal(levels(text), expected);
  assert.equal(parseBlocks(`${">".repeat(20_000)} a`), null);
});
