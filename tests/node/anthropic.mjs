// Anthropic's client for JavaScript, unchanged, against the scripted server of tests/http.
import assert from "node:assert/strict";
import test from "node:test";
import Anthropic from "@anthropic-ai/sdk";

const { BASE_URL, MODEL } = process.env;
const client = new Anthropic({ baseURL: BASE_URL, apiKey: "unused", maxRetries: 0, timeout: 30_000 });
const call = 'Hm.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>';
const input_schema = { type: "object", properties: { city: { type: "string" } }, required: ["city"] };
const tools = [{ name: "weather", input_schema }];
const ask = (content, fields = {}) => ({
  model: MODEL,
  max_tokens: 500,
  messages: [{ role: "user", content }],
  ...fields,
});
const unnamed = (blocks) => blocks.map(({ id, ...block }) => block);

test("a message, whole and streamed", async () => {
  const whole = await client.messages.create(ask("say:<think>Hm</think>Hello, Köln 😀."));
  assert.deepEqual(
    whole.content.map((block) => block.text ?? block.thinking),
    ["Hm", "Hello, Köln 😀."],
  );
  const final = await client.messages.stream(ask("say:<think>Hm</think>Hello, Köln 😀.")).finalMessage();
  assert.deepEqual(final.content, whole.content);
  assert.equal(final.stop_reason, "end_turn");
  assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
});

test("a tool and its result", async () => {
  const whole = await client.messages.create(ask(`say:${call}`, { tools }));
  const final = await client.messages.stream(ask(`say:${call}`, { tools })).finalMessage();
  assert.deepEqual(unnamed(final.content), unnamed(whole.content));
  assert.deepEqual([final.stop_reason, final.content[1].input], ["tool_use", { city: "Köln" }]);
  const result = { type: "tool_result", tool_use_id: final.content[1].id, content: "sunny" };
  const messages = [
    { role: "user", content: "?" },
    { role: "assistant", content: final.content },
    { role: "user", content: [result, { type: "text", text: "say:It is sunny." }] },
  ];
  const last = await client.messages.create(ask("", { messages, tools }));
  assert.equal(last.content[0].text, "It is sunny.");
});

test("tokens are counted", async () => {
  const { max_tokens, ...fields } = ask("say:Hello.", { tools });
  const counted = await client.messages.countTokens(fields);
  const { usage } = await client.messages.create({ ...fields, max_tokens });
  assert.equal(counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
});

test("errors name their field", async () => {
  await assert.rejects(client.messages.create(ask([{ type: "image", source: {} }])), (error) => {
    assert.ok(error instanceof Anthropic.BadRequestError);
    assert.match(error.message, /messages\[0\]\.content\[0\]\.type/);
    assert.ok(error.requestID);
    return true;
  });
  await assert.rejects(client.messages.create(ask("a", { model: "other" })), Anthropic.NotFoundError);
});
