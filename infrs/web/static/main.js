// Starts the page: makes its parts and connects them.

import { Chat } from "./chat.js";
import { openStore } from "./data/store.js";
import { notify } from "./dom/announce.js";
import { startComposer } from "./panels/composer.js";
import { startKeyDialog, startShortcutsDialog } from "./panels/dialogs.js";
import { byId, icon } from "./dom/dom.js";
import { keepFocus } from "./dom/focus.js";
import { Models } from "./panels/models.js";
import { startPanel } from "./panels/panel.js";
import { startSettings } from "./panels/settings.js";
import { focusPrompt, startShortcuts } from "./panels/shortcuts.js";
import { startSidebar } from "./panels/sidebar.js";
import { startTheme } from "./panels/theme.js";
import { Thread } from "./thread/thread.js";

for (const button of document.querySelectorAll("[data-icon]")) button.prepend(icon(button.dataset.icon));
startTheme();

const chat = new Chat(await openStore());
const sidebar = startPanel("sidebar", "sidebar-toggle", true);
const settings = startPanel("settings", "settings-toggle", false);
startSidebar(chat, sidebar);
new Thread(chat);
startComposer(chat);
const models = new Models(chat, startSettings(chat));
const showShortcuts = startShortcutsDialog();
const askKey = startKeyDialog(async () => {
  await models.refresh();
  const last = chat.current.messages.at(-1);
  if (last?.error?.status === 401) chat.regenerate(last.id);
});
keepFocus(chat);
chat.addEventListener("key", ({ detail }) => askKey(detail));
startShortcuts({
  create: () => (chat.create(), focusPrompt()),
  prompt: focusPrompt,
  settings: settings.toggle,
  shortcuts: showShortcuts,
  sidebar: sidebar.toggle,
  stop: () => chat.stop(),
});
chat.addEventListener("unsaved", ({ detail }) => notify(unsavedText(detail)));
addEventListener("pagehide", () => chat.active && chat.save());

function unsavedText(error) {
  if (error?.name !== "QuotaExceededError") return `The browser did not store the conversation: ${error?.message ?? error}`;
  return "The browser has no room for the conversation. Export and delete old ones.";
}

await chat.start();
if (!chat.store.isLasting) notify("This browser stores nothing: conversations last as long as the tab.");
focusPrompt();
await models.refresh();
byId("app").dataset.started = "true";
