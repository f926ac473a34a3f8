// The list of conversations, with search, rename, delete, export and import.

import { exportText, importText } from "../data/transfer.js";
import { notify } from "../dom/announce.js";
import { byId, h, iconButton } from "../dom/dom.js";

/** Connect the list to the chat. */
export function startSidebar(chat, panel) {
  const list = byId("conversations");
  const show = () => list.replaceChildren(...found(chat).map((conversation) => row(chat, conversation, panel)));
  byId("search").addEventListener("input", show);
  byId("new-chat").addEventListener("click", () => (chat.create(), panel.closeIfOver(), byId("prompt").focus()));
  byId("export").addEventListener("click", () => save(chat.conversations));
  byId("import").addEventListener("click", () => byId("import-file").click());
  byId("import-file").addEventListener("change", (event) => load(chat, event.target));
  chat.addEventListener("list", show);
}

function found(chat) {
  const wanted = byId("search").value.trim().toLowerCase();
  const texts = ({ title, messages }) => [title, ...messages.map((message) => message.content)];
  return chat.conversations.filter((conversation) => texts(conversation).some((text) => text.toLowerCase().includes(wanted)));
}

function row(chat, conversation, panel) {
  const isCurrent = conversation === chat.current;
  const title = conversation.title || "Untitled";
  const open = () => (chat.open(conversation.id), panel.closeIfOver());
  const item = h("li", { class: isCurrent ? "current" : null, "data-id": conversation.id },
    h("button", { type: "button", class: "title", "data-focus": true, onclick: open, "aria-current": isCurrent ? "true" : null, title }, title),
    iconButton("edit", `Rename ${title}`, () => rename(chat, conversation, item)),
    iconButton("trash", `Delete ${title}`, () => remove(chat, conversation)));
  return item;
}

function rename(chat, conversation, item) {
  const field = h("input", { "aria-label": "Title", value: conversation.title });
  const keys = (event) => {
    if (event.key === "Escape") (event.stopPropagation(), (field.value = ""));
    if (event.key === "Enter" || event.key === "Escape") field.blur();
  };
  field.addEventListener("keydown", keys);
  field.addEventListener("blur", () => chat.rename(conversation, field.value));
  item.replaceChildren(field);
  field.select();
}

async function remove(chat, conversation) {
  notify("Conversation deleted.", { label: "Undo", run: await chat.remove(conversation) });
}

function save(conversations) {
  const address = URL.createObjectURL(new Blob([exportText(conversations)], { type: "application/json" }));
  const day = new Date().toISOString().slice(0, 10);
  h("a", { href: address, download: `infrs-conversations-${day}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(address), 60_000);
}

async function load(chat, input) {
  const [file] = input.files;
  input.value = "";
  if (!file) return;
  try {
    const conversations = importText(await file.text());
    await chat.add(conversations);
    notify(`Imported ${conversations.length} ${conversations.length === 1 ? "conversation" : "conversations"}.`);
  } catch (error) {
    notify(error.message);
  }
}
