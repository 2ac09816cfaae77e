"use strict";
// Runs in the head, so that a chosen theme is there before the first paint.
const themes = ["system", "light", "dark"];

function storedTheme() {
  try {
    return localStorage.getItem("factseg-theme") ?? "system";
  } catch {
    return "system"; // Some browsers refuse storage to pages opened from a file.
  }
}

function applyTheme(theme) {
  if (theme === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
}

applyTheme(storedTheme());

document.addEventListener("DOMContentLoaded", () => {
  const button = document.getElementById("theme");
  let theme = storedTheme();
  const name = () => (button.textContent = `Theme: ${theme}`);
  name();
  button.addEventListener("click", () => {
    theme = themes[(themes.indexOf(theme) + 1) % themes.length];
    applyTheme(theme);
    name();
    try {
      localStorage.setItem("factseg-theme", theme);
    } catch {
      // The choice then lasts as long as the page.
    }
  });
});
