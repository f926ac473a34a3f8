// Starts the page: makes its parts and connects them.

import { Chat } from "./chat.js";
import { openStore } from "./data/store.js";
import { notify } from "./ui/announce.js";
import { startComposer } from "./ui/composer.js";
import { startKeyDialog, startShortcutsDialog } from "./ui/dialogs.js";
import { byId, icon } from "./ui/dom.js";
import { keepFocus } from "./ui/focus.js";
import { Models } from "./ui/models.js";
import { startPanel } from "./ui/panel.js";
import { startSettings } from "./ui/settings.js";
import { focusPrompt, startShortcuts } from "./ui/shortcuts.js";
import { startSidebar } from "./ui/sidebar.js";
import { startTheme } from "./ui/theme.js";
import { Thread } from "./ui/thread.js";

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
