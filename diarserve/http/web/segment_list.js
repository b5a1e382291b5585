// The segments of a transcript, of which only those in sight are in the page: 4 h have 5,000 of them and 40,000 words.
//
// Heights are guessed from the text until a segment has been laid out; what is in sight stays where it is meanwhile.

import { clock } from "./clock.js";
import { h, icon } from "./dom.js";
import { spelled } from "./spelling.js";

const BEYOND = 500; // pixels above and below what is in sight

export class SegmentList {
  /** handlers: onWord(number), onEdit(segment number), onSpeaker(name). */
  constructor(transcript, handlers) {
    this.handlers = handlers;
    this.marks = { unsure: 0.5, found: new Set(), current: -1 };
    this.nodes = new Map(); // articles in the page, by number
    this.feed = h("div", { class: "feed", role: "feed", "aria-label": "Transcript", "aria-busy": "false", onclick: (event) => this.clicked(event) });
    this.element = h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Transcript, scrollable", onscroll: () => this.later() }, this.feed);
    this.sizes = new ResizeObserver(() => this.resized());
    this.sizes.observe(this.element);
    this.take(transcript);
  }

  /** Show this transcript instead, at the same place. */
  take(transcript) {
    this.transcript = transcript;
    for (const node of this.nodes.values()) node.remove();
    this.nodes.clear();
    this.heights = [];
    this.grown();
  }

  /** The transcript has more segments than before. */
  grown() {
    const width = Math.max(240, this.element.clientWidth - 60);
    for (let number = this.heights.length; number < this.transcript.segments.length; number += 1) {
      const lines = Math.ceil((this.transcript.segments[number].text.length * 8.6) / width);
      this.heights.push(48 + 28 * lines);
    }
    this.place();
    this.later();
  }

  resized() {
    if (this.element.clientWidth === this.width) return this.later();
    this.width = this.element.clientWidth;
    const [anchor, offset] = this.anchor();
    this.heights = [];
    this.grown();
    this.render();
    this.element.scrollTop = (this.tops[anchor] ?? 0) + offset;
  }

  place() {
    let top = 0;
    this.tops = new Float64Array(this.heights.length + 1);
    this.heights.forEach((height, number) => {
      this.tops[number] = top;
      top += height;
    });
    this.tops[this.heights.length] = top;
    this.feed.style.height = `${top}px`;
    for (const [number, node] of this.nodes) node.style.transform = `translateY(${this.tops[number]}px)`;
  }

  /** The first segment in sight, and how far it is scrolled past. */
  anchor() {
    const top = this.element.scrollTop;
    const number = this.numberAt(top);
    return [number, top - (this.tops[number] ?? 0)];
  }

  numberAt(pixel) {
    let [low, high] = [0, this.heights.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle] <= pixel) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }

  later() {
    if (this.asked) return;
    this.asked = requestAnimationFrame(() => {
      this.asked = 0;
      this.render();
    });
  }

  render() {
    if (!this.heights.length) return;
    const top = this.element.scrollTop;
    const first = this.numberAt(top - BEYOND);
    const last = this.numberAt(top + this.element.clientHeight + BEYOND);
    for (const [number, node] of this.nodes) {
      if ((number < first || number > last) && !node.contains(document.activeElement)) {
        node.remove();
        this.nodes.delete(number);
      }
    }
    const made = [];
    let after = null;
    for (let number = last; number >= first; number -= 1) {
      let node = this.nodes.get(number);
      if (!node) {
        node = this.article(number);
        node.style.transform = `translateY(${this.tops[number]}px)`;
        this.feed.insertBefore(node, after); // in reading order
        this.nodes.set(number, node);
        made.push([number, node]);
      }
      after = node;
    }
    if (made.length) this.measure(made);
  }

  measure(made) {
    const [anchor, offset] = this.anchor();
    let changed = false;
    for (const [number, node] of made) {
      const height = node.offsetHeight;
      if (height !== this.heights[number]) {
        this.heights[number] = height;
        changed = true;
      }
    }
    if (!changed) return;
    this.place();
    const wanted = this.tops[anchor] + offset;
    if (Math.abs(wanted - this.element.scrollTop) > 1) this.element.scrollTop = wanted;
  }

  article(number) {
    const segment = this.transcript.segments[number];
    const name = `segment-${number}`;
    const label = segment.speaker === "UNKNOWN" ? "Unknown speaker" : segment.speaker;
    return h(
      "article",
      { class: `segment speaker-${this.transcript.colour(segment.speaker)}`, "aria-posinset": String(number + 1), "aria-setsize": String(this.transcript.head.segments), "aria-labelledby": name, "data-segment": String(number) },
      h(
        "div",
        { class: "said-by" },
        h("button", { class: "speaker", id: name, "data-act": "speaker", title: "Name this speaker" }, label),
        h("button", { class: "time", "data-act": "time", "aria-label": `Play from ${clock(segment.start)}` }, clock(segment.start)),
        h("button", { class: "plain edit", "data-act": "edit", "aria-label": `Edit what ${label} says at ${clock(segment.start)}` }, icon("edit")),
      ),
      h("p", { lang: segment.language || this.transcript.head.language }, this.wordNodes(segment)),
    );
  }

  wordNodes(segment) {
    return spelled(segment).flatMap(([before, text], index) => {
      const node = h("span", { "data-w": String(segment.first + index) }, text);
      this.mark(node, segment.first + index, segment.words[index]);
      return [before, node];
    });
  }

  mark(node, number, word) {
    node.className = ["w", ...this.classes(number, word)].join(" ");
    node.title = this.meaning(word);
  }

  /** Of a word's mark, for whoever points at it. */
  meaning(word) {
    if (word.overlap) return `At the same time: ${word.other_speakers.join(", ")}`;
    if (word.probability < this.marks.unsure) return `${Math.round(100 * word.probability)} % sure of the word`;
    if (word.speaker_confidence < this.marks.unsure) return `${Math.round(100 * word.speaker_confidence)} % sure of who says it`;
    return "";
  }

  classes(number, word) {
    return [
      word.probability < this.marks.unsure && "unsure",
      word.overlap && "overlap",
      !word.overlap && word.speaker_confidence < this.marks.unsure && "who",
      this.marks.found.has(number) && "found",
      number === this.marks.current && "now",
    ].filter(Boolean);
  }

  /** The marks have changed: show them on the words that are in the page. */
  remark() {
    for (const [number, node] of this.nodes) {
      const segment = this.transcript.segments[number];
      node.querySelectorAll("[data-w]").forEach((word, index) => this.mark(word, segment.first + index, segment.words[index]));
    }
  }

  /** Mark the word that is spoken; -1: none. */
  speak(word) {
    if (word === this.marks.current) return;
    this.feed.querySelector(".now")?.classList.remove("now");
    this.marks.current = word;
    this.feed.querySelector(`[data-w="${word}"]`)?.classList.add("now");
  }

  /** Bring a word into sight, unless it is there. */
  reveal(word, always = false) {
    const number = this.transcript.segmentOf(word);
    const { scrollTop, clientHeight } = this.element;
    const [top, bottom] = [this.tops[number], this.tops[number + 1]];
    if (!always && top >= scrollTop && bottom <= scrollTop + clientHeight - 20) return;
    this.element.scrollTop = Math.max(0, top - clientHeight / 3);
    this.render();
    const node = this.feed.querySelector(`[data-w="${word}"]`);
    if (!node) return;
    const inner = node.getBoundingClientRect().top - this.element.getBoundingClientRect().top;
    if (inner < 0 || inner > clientHeight - 40) this.element.scrollTop += inner - clientHeight / 3;
  }

  clicked(event) {
    const act = event.target.closest("[data-act]")?.dataset.act;
    const article = event.target.closest("[data-segment]");
    if (!article) return;
    const number = Number(article.dataset.segment);
    const segment = this.transcript.segments[number];
    if (act === "edit") this.handlers.onEdit(number);
    else if (act === "speaker") this.handlers.onSpeaker(segment.speaker);
    else if (act === "time") this.handlers.onWord(segment.first);
    else if (event.target.dataset.w && getSelection().isCollapsed) this.handlers.onWord(Number(event.target.dataset.w));
  }

  close() {
    this.sizes.disconnect();
    cancelAnimationFrame(this.asked);
  }
}
