// One streamed answer: it collects the chunks in a message and measures the time.

const LEAST_SECONDS = 0.02; // a shorter time gives no rate

/** Collects the chunks of an answer. clock: returns milliseconds. */
export class Answer {
  constructor(message, clock = () => performance.now()) {
    this.message = message;
    this.clock = clock;
    this.started = clock();
    this.first = 0;
    this.firstCount = 0;
  }

  /** Add a chunk of the stream to the message. */
  add(chunk) {
    const choice = chunk.choices?.[0];
    if (choice) this.addChoice(choice);
    if (chunk.usage) this.count(chunk.usage);
  }

  addChoice({ delta = {}, logprobs, finish_reason: finish }) {
    const { message } = this;
    if (delta.reasoning_content) message.reasoning = (message.reasoning ?? "") + delta.reasoning_content;
    if (delta.content && message.reasoning) message.thought ??= (this.clock() - this.started) / 1000;
    message.content += delta.content ?? "";
    for (const call of delta.tool_calls ?? []) addCall((message.calls ??= []), call);
    if (logprobs?.content?.length) (message.tokens ??= []).push(...logprobs.content.map(compact));
    if (finish) message.finish = finish;
  }

  /** Keep the token counts, and the times that follow from them. */
  count(usage) {
    const now = this.clock();
    const tokens = usage.completion_tokens;
    if (!this.first && tokens > 0) [this.first, this.firstCount] = [now, tokens];
    const seconds = (now - this.first) / 1000;
    this.message.stats = {
      promptTokens: usage.prompt_tokens,
      cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? 0,
      tokens,
      firstToken: this.first ? (this.first - this.started) / 1000 : null,
      // The last chunk, without text, may come later than the last token.
      perSecond: tokens > this.firstCount && seconds > LEAST_SECONDS ? this.rate(tokens, seconds) : null,
    };
  }

  rate(tokens, seconds) {
    if (tokens !== this.lastTokens) [this.lastTokens, this.lastSeconds] = [tokens, seconds];
    return (tokens - this.firstCount) / this.lastSeconds;
  }
}

function addCall(calls, { index = 0, id, function: called = {} }) {
  const call = (calls[index] ??= { id: "", name: "", arguments: "" });
  call.id ||= id ?? "";
  call.name += called.name ?? "";
  call.arguments += called.arguments ?? "";
}

/** Return a token of `logprobs` in the form that is stored: [text, logprob, alternatives]. */
function compact({ token, logprob, top_logprobs: top = [] }) {
  return [token, logprob, top.map((other) => [other.token, other.logprob])];
}
