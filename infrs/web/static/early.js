// Runs before the first paint, so that a chosen theme does not flash. panels/theme.js changes it later.
try {
  const theme = JSON.parse(localStorage.getItem("infrs-theme"));
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
} catch {
  // No storage, or another value: the system's theme applies.
}
