// A menu that opens below its button, and closes when something of it is chosen, by Escape, or by going elsewhere.

import { h } from "./dom.js";

/** summary: what stands on the button, as arguments of h after "summary". items: elements; its buttons close it. */
export function menu(summary, items) {
  const button = h("summary", ...summary);
  const element = h("details", { class: "menu" }, button, h("div", { class: "items", onclick: (event) => event.target.closest("button") && close() }, items));
  const close = () => (element.open = false);
  const elsewhere = (event) => element.contains(event.target) || close();
  element.addEventListener("toggle", () => {
    if (element.open) document.addEventListener("pointerdown", elsewhere);
    else document.removeEventListener("pointerdown", elsewhere);
  });
  element.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || !element.open) return;
    close();
    button.focus();
  });
  element.addEventListener("focusout", (event) => event.relatedTarget && !element.contains(event.relatedTarget) && close());
  return element;
}
