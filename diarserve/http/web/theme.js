// Light, dark, or as the system has it.

import { byId } from "./dom.js";

const NAME = "diarserve-theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" };

function show(theme) {
  if (theme === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  const button = byId("theme");
  button.textContent = { auto: "◐", light: "☀", dark: "☾" }[theme];
  button.setAttribute("aria-label", `Colours: ${theme}. Change to ${NEXT[theme]}.`);
  button.title = `Colours: ${theme}`;
}

/** Colours of the style sheet as a canvas understands them. element: where they hold. */
export function coloursIn(element) {
  const probe = document.createElement("span");
  probe.hidden = true;
  element.append(probe);
  const known = new Map();
  return {
    of(name) {
      if (!known.has(name)) {
        probe.style.color = `var(--${name})`;
        known.set(name, getComputedStyle(probe).color);
      }
      return known.get(name);
    },
    done: () => probe.remove(),
  };
}

export function startTheme() {
  let theme = localStorage.getItem(NAME) ?? "auto";
  show(theme);
  byId("theme").addEventListener("click", () => {
    theme = NEXT[theme];
    localStorage.setItem(NAME, theme);
    show(theme);
    dispatchEvent(new Event("themechange"));
  });
}
