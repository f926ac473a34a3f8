// One conversation in two tabs: no message is lost.

/**
 * Return the messages of this tab, and those that another tab stored meanwhile. known: ids that this tab has read or
 * written; it removed those that it knows and no longer has.
 */
export function mergeMessages(ours, stored, known) {
  const merged = [...ours];
  let place = 0;
  for (const message of stored) {
    const index = merged.findIndex(({ id }) => id === message.id);
    if (index >= 0) place = index + 1;
    else if (!known.has(message.id)) merged.splice(place++, 0, message);
  }
  return merged;
}

/** Return the stored messages. One that did not change stays the same object, and so keeps its view. */
export function sameObjects(ours, stored) {
  const texts = new Map(ours.map((message) => [JSON.stringify(message), message]));
  return stored.map((message) => texts.get(JSON.stringify(message)) ?? message);
}
