// The field in which one looks for a text, and steps from place to place.

import { h, icon } from "./dom.js";
import { find } from "./search.js";

export class SearchBox {
  constructor(list) {
    this.list = list;
    this.places = [];
    this.at = -1;
    this.input = h("input", { type: "search", placeholder: "Search", "aria-label": "Search the transcript", oninput: () => this.look(), onkeydown: (event) => this.key(event) });
    this.told = h("span", { class: "told", role: "status" });
    this.element = h(
      "div",
      { class: "search", role: "search" },
      this.input,
      this.told,
      h("button", { class: "plain", "aria-label": "Place before", onclick: () => this.step(-1) }, "↑"),
      h("button", { class: "plain", "aria-label": "Next place", onclick: () => this.step(1) }, "↓"),
    );
  }

  key(event) {
    if (event.key === "Enter") {
      event.preventDefault();
      this.step(event.shiftKey ? -1 : 1);
    } else if (event.key === "Escape") {
      this.input.value = "";
      this.look();
      this.input.blur();
    }
  }

  look() {
    this.places = find(this.list.transcript, this.input.value);
    const { found } = this.list.marks;
    found.clear();
    for (const [first, past] of this.places) for (let word = first; word < past; word += 1) found.add(word);
    this.at = -1;
    this.told.textContent = this.input.value.trim() ? `${this.places.length} found` : "";
    this.list.redraw();
    if (this.places.length) this.step(1);
  }

  step(by) {
    if (!this.places.length) return;
    this.at = (this.at + by + this.places.length) % this.places.length;
    this.told.textContent = `${this.at + 1} of ${this.places.length}`;
    this.list.reveal(this.places[this.at][0], true);
  }
}
