// OpenAI's client for JavaScript, unchanged, against the scripted server of tests/http.
import assert from "node:assert/strict";
import test from "node:test";
import OpenAI from "openai";

const { BASE_URL, MODEL } = process.env;
const client = new OpenAI({ baseURL: `${BASE_URL}/v1`, apiKey: "unused", maxRetries: 0, timeout: 30_000 });
const user = (content) => [{ role: "user", content }];
const parameters = {
  type: "object",
  properties: { city: { type: "string", maxLength: 20 } },
  required: ["city"],
  additionalProperties: false,
};
const tools = [{ type: "function", function: { name: "weather", parameters } }];
const call = '<tool_call>\n{"name": "weather", "arguments": {"city": "Köln"}}\n</tool_call>';

test("a chat, whole and streamed", async () => {
  const fields = { model: MODEL, messages: user("say:Hello, Köln 😀."), seed: 1 };
  const whole = await client.chat.completions.create(fields);
  assert.equal(whole.choices[0].message.content, "Hello, Köln 😀.");
  let text = "";
  let usage = null;
  const options = { include_usage: true };
  for await (const chunk of await client.chat.completions.create({ ...fields, stream: true, stream_options: options })) {
    text += chunk.choices[0]?.delta.content ?? "";
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, whole.choices[0].message.content);
  assert.equal(usage.total_tokens, whole.usage.total_tokens);
});

test("the helper that puts a stream together", async () => {
  const stream = client.chat.completions.stream({ model: MODEL, messages: user(`say:${call}`), tools });
  const answer = (await stream.finalChatCompletion()).choices[0];
  assert.equal(answer.finish_reason, "tool_calls");
  assert.deepEqual(JSON.parse(answer.message.tool_calls[0].function.arguments), { city: "Köln" });
});

test("a loop that runs tools", async () => {
  const seen = [];
  const weather = {
    type: "function",
    function: {
      name: "weather",
      parameters,
      parse: JSON.parse,
      function: ({ city }) => {
        seen.push(city);
        return "say:It is sunny.";
      },
    },
  };
  const runner = client.chat.completions.runTools({ model: MODEL, messages: user(`say:${call}`), tools: [weather] });
  assert.match(await runner.finalContent(), /^It is sunny\./);
  assert.deepEqual(seen, ["Köln"]);
});

test("an answer of a schema", async () => {
  const format = { type: "json_schema", json_schema: { name: "place", schema: parameters, strict: true } };
  const answer = await client.chat.completions.parse({ model: MODEL, messages: user("say:x"), response_format: format });
  assert.equal(typeof JSON.parse(answer.choices[0].message.content).city, "string");
});

test("a completion and the models", async () => {
  const answer = await client.completions.create({ model: MODEL, prompt: "say:Hello.", max_tokens: 50 });
  assert.equal(answer.choices[0].text, "Hello.");
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  assert.deepEqual(ids, [MODEL]);
});

test("a response, whole, streamed and gone on from", async () => {
  const first = await client.responses.create({ model: MODEL, input: "say:Hello." });
  assert.equal(first.output_text, "Hello.");
  const stream = client.responses.stream({ model: MODEL, input: "say:Again.", previous_response_id: first.id });
  assert.equal((await stream.finalResponse()).output_text, "Again.");
});

test("a batch, from its upload to its answers", async () => {
  const line = (id) => ({
    custom_id: id,
    method: "POST",
    url: "/v1/chat/completions",
    body: { model: MODEL, messages: user(`say:answer ${id}`) },
  });
  const content = ["a", "b"].map((id) => `${JSON.stringify(line(id))}\n`).join("");
  const file = await client.files.create({ file: await OpenAI.toFile(Buffer.from(content), "in.jsonl"), purpose: "batch" });
  assert.equal(file.bytes, content.length);
  let batch = await client.batches.create({
    input_file_id: file.id,
    endpoint: "/v1/chat/completions",
    completion_window: "24h",
  });
  for (let tries = 0; batch.status !== "completed" && tries < 200; tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 100));
    batch = await client.batches.retrieve(batch.id);
  }
  assert.deepEqual(batch.request_counts, { total: 2, completed: 2, failed: 0 });
  const lines = (await (await client.files.content(batch.output_file_id)).text()).trim().split("\n").map(JSON.parse);
  const texts = lines.map((found) => found.response.body.choices[0].message.content);
  assert.deepEqual(texts.sort(), ["answer a", "answer b"]);
  const listed = [];
  for await (const each of client.files.list({ limit: 1 })) listed.push(each.id);
  assert.equal(listed.length, 2);
  assert.equal((await client.files.delete(file.id)).deleted, true);
  await assert.rejects(client.batches.cancel(batch.id), OpenAI.BadRequestError);
});

test("errors name their field", async () => {
  const asked = client.chat.completions.create({ model: MODEL, messages: user("say:x"), n: 129 });
  await assert.rejects(asked, (error) => {
    assert.ok(error instanceof OpenAI.BadRequestError);
    assert.deepEqual([error.status, error.param, error.code], [400, "n", "integer_above_max_value"]);
    return true;
  });
  await assert.rejects(client.models.retrieve("other"), OpenAI.NotFoundError);
});

test("a stream that is left", async () => {
  const fields = { model: MODEL, messages: user(`say:${"word ".repeat(500)}`), stream: true };
  const stream = await client.chat.completions.create(fields);
  for await (const chunk of stream) {
    if (chunk.choices[0].delta.content) break;
  }
  const next = await client.chat.completions.create({ model: MODEL, messages: user("say:next") });
  assert.equal(next.choices[0].message.content, "next");
});
