// Ollama's client for JavaScript, unchanged, against the scripted server of tests/http.
import assert from "node:assert/strict";
import test from "node:test";
import { Ollama } from "ollama";

const { BASE_URL, MODEL } = process.env;
const client = new Ollama({ host: BASE_URL });
const user = (content) => [{ role: "user", content }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 } },
  required: ["city"],
};
const tools = [{ type: "function", function: { name: "weather", description: "The weather.", parameters } }];
const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>';

test("a chat, whole and streamed", async () => {
  const fields = { model: MODEL, messages: user("say:Hello, Köln 😀."), options: { seed: 1 } };
  const whole = await client.chat(fields);
  assert.equal(whole.message.content, "Hello, Köln 😀.");
  assert.equal(whole.done_reason, "stop");
  let text = "";
  let last;
  for await (const part of await client.chat({ ...fields, stream: true })) {
    text += part.message.content;
    last = part;
  }
  assert.equal(text, whole.message.content);
  assert.deepEqual([last.done, last.eval_count], [true, whole.eval_count]);
});

test("a call and its result", async () => {
  const first = await client.chat({ model: MODEL, messages: user(`say:${call}`), tools });
  const [made] = first.message.tool_calls;
  assert.deepEqual(made.function.arguments, { city: "Köln" });
  const result = { role: "tool", tool_name: "weather", content: "say:It is sunny." };
  const messages = [...user("Weather?"), first.message, result];
  const answer = await client.chat({ model: MODEL, messages, tools });
  assert.match(answer.message.content, /^It is sunny\./);
});

test("thinking", async () => {
  const messages = user("say:<think>\nHm.\n</think>\n\nIt is 4.");
  const { message } = await client.chat({ model: MODEL, messages, think: true });
  assert.deepEqual([message.thinking, message.content], ["Hm.", "It is 4."]);
});

test("an answer of a schema", async () => {
  const { message } = await client.chat({ model: MODEL, messages: user("say:x"), format: parameters });
  assert.equal(typeof JSON.parse(message.content).city, "string");
});

test("a prompt, whole and streamed", async () => {
  const fields = { model: MODEL, prompt: "say:Hello.", system: "Be brief." };
  assert.equal((await client.generate(fields)).response, "Hello.");
  let text = "";
  for await (const part of await client.generate({ ...fields, stream: true })) text += part.response;
  assert.equal(text, "Hello.");
});

test("the models", async () => {
  const { models } = await client.list();
  assert.deepEqual(models.map(({ name }) => name), [`${MODEL}:latest`]);
  assert.equal((await client.ps()).models.length, 1);
  const shown = await client.show({ model: models[0].name });
  assert.ok(shown.capabilities.includes("completion"));
  assert.match((await client.version()).version, /^\d+\.\d+\.\d+$/);
});

test("errors", async () => {
  const missing = client.chat({ model: "other", messages: user("hi") });
  await assert.rejects(missing, { name: "ResponseError", status_code: 404, error: /^model 'other' not found/ });
  await assert.rejects(client.pull({ model: "other" }), { status_code: 404, error: /infrs pull/ });
  await assert.rejects(client.embed({ model: MODEL, input: "hi" }), { status_code: 400 });
});

test("a stream that is left", async () => {
  const stream = await client.chat({ model: MODEL, messages: user(`say:${"word ".repeat(300)}`), stream: true });
  await assert.rejects(async () => {
    for await (const part of stream) if (part.message.content) stream.abort();
  }, { name: "AbortError" });
  const next = await client.chat({ model: MODEL, messages: user("say:next") });
  assert.equal(next.message.content, "next");
});
