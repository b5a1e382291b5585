// The words of a live session, by speaker. It knows the events (docs/live.md) and the elements that show them.

import { clock } from "./clock.js";
import { h } from "./dom.js";

export class LiveWords {
  constructor() {
    this.words = []; // final ones, each with its utterance
    this.groups = []; // { first, element }: consecutive words of one speaker in one utterance
    this.speakers = [];
    this.interim = h("p", { class: "interim", "aria-hidden": "true" });
    this.element = h("div", { class: "so-far", role: "log", "aria-label": "What is said", tabindex: "0" }, this.interim);
  }

  take(event) {
    const down = this.element.scrollHeight - this.element.scrollTop - this.element.clientHeight < 80;
    if (event.type === "final") this.final(event);
    else if (event.type === "correction") this.correct(event);
    else if (event.type === "interim") this.interim.textContent = event.words.map(({ word }) => word).join(" ");
    if (down) this.element.scrollTop = this.element.scrollHeight;
  }

  final({ first, utterance, words }) {
    words.forEach((word, index) => (this.words[first + index] = { ...word, utterance }));
    this.interim.textContent = "";
    this.regroup(first);
  }

  correct({ first, past, speaker }) {
    for (let number = first; number < Math.min(past, this.words.length); number += 1) this.words[number] = { ...this.words[number], speaker };
    this.regroup(first);
  }

  /** Make the groups anew from the one before that of this word. */
  regroup(word) {
    while (this.groups.length && this.groups.at(-1).first >= word) this.groups.pop().element.remove();
    const from = this.groups.length ? this.groups.at(-1).first : 0;
    this.groups.pop()?.element.remove();
    let group = [];
    for (let number = from; number <= this.words.length; number += 1) {
      const [before, said] = [this.words[number - 1], this.words[number]];
      if (group.length && (!said || said.speaker !== before.speaker || said.utterance !== before.utterance)) {
        this.show(number - group.length, group);
        group = [];
      }
      if (said) group.push(said);
    }
  }

  show(first, words) {
    const { speaker, start } = words[0];
    const known = speaker !== "UNKNOWN";
    if (known && !this.speakers.includes(speaker)) this.speakers.push(speaker);
    const colour = known ? this.speakers.indexOf(speaker) % 8 : "none";
    const element = h("p", { class: `speaker-${colour}` }, h("time", {}, clock(start)), h("b", {}, known ? speaker : "…"), h("span", {}, words.map(({ word }) => word).join(" ")));
    this.interim.before(element);
    this.groups.push({ first, element });
  }
}
