// The field in which one looks for a text, and steps from place to place.

import { h, yieldToPage } from "./dom.js";
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

  async look() {
    const places = [];
    const found = new Set();
    const mine = (this.latest = {}); // what is typed meanwhile is looked for instead
    for (const piece of find(this.list.transcript, this.input.value)) {
      places.push(...piece);
      for (const [first, past] of piece) for (let word = first; word < past; word += 1) found.add(word);
      await yieldToPage();
      if (this.latest !== mine) return;
    }
    this.places = places;
    this.list.marks.found = found;
    this.at = -1;
    this.told.textContent = this.input.value.trim() ? `${places.length} found` : "";
    this.list.remark();
    if (places.length) this.step(1);
  }

  step(by) {
    if (!this.places.length) return;
    this.at = (this.at + by + this.places.length) % this.places.length;
    this.told.textContent = `${this.at + 1} of ${this.places.length}`;
    this.list.reveal(this.places[this.at][0], true);
  }
}
