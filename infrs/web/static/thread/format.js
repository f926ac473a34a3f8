// Numbers and times as people read them.

const seconds = new Intl.NumberFormat("en", { maximumSignificantDigits: 2 });
const rate = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const count = new Intl.NumberFormat("en");

/** Return one line about an answer: its tokens, their rate, and the time to the first one. */
export function statsLine({ tokens, perSecond, firstToken, promptTokens, cachedTokens }) {
  const cached = cachedTokens ? `, ${count.format(cachedTokens)} cached` : "";
  return [
    `${count.format(tokens)} ${tokens === 1 ? "token" : "tokens"}`,
    perSecond && `${rate.format(perSecond)} tokens/s`,
    firstToken && `first token ${seconds.format(firstToken)} s`,
    `prompt ${count.format(promptTokens)}${cached}`,
  ].filter(Boolean).join(" · ");
}

/** Return a duration. */
export const duration = (value) => `${seconds.format(value)} s`;

/** Return a probability in percent. */
export const percent = (probability) =>
  probability > 0 && probability < 0.0001 ? "<0.01 %" : `${seconds.format(probability * 100)} %`;

/** Return a token with visible white space. */
export const visible = (token) => token.replace(/\n/g, "⏎").replace(/\t/g, "⇥").replace(/ /g, "␣") || "∅";
