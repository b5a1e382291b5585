// How busy lanes were in the last minutes: a strip for each, one column for each look.

import { h } from "./dom.js";
import { coloursIn } from "./theme.js";

const COLUMNS = 120;

export class Timeline {
  constructor() {
    this.looks = []; // [jobs by lane]
    this.canvas = h("canvas", { role: "img", "aria-label": "Jobs of each lane over the last minutes" });
    this.element = h("div", { class: "timeline" }, this.canvas);
    new ResizeObserver(() => this.draw()).observe(this.element);
    addEventListener("themechange", () => this.draw());
  }

  /** jobs: by lane; most: the most that each lane works on at a time. */
  add(jobs, most) {
    this.looks.push(jobs);
    if (this.looks.length > COLUMNS) this.looks.shift();
    this.most = most;
    this.draw();
  }

  draw() {
    const names = Object.keys(this.looks.at(-1) ?? {});
    const width = this.element.clientWidth;
    if (!names.length || !width) return;
    const [row, left] = [30, 110];
    const scale = devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = names.length * row * scale;
    this.canvas.style.height = `${names.length * row}px`;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const colours = coloursIn(this.element);
    const column = (width - left) / COLUMNS;
    context.font = "13px system-ui, sans-serif";
    context.textBaseline = "middle";
    names.forEach((name, number) => {
      const bottom = (number + 1) * row - 5;
      context.fillStyle = colours.of("text");
      context.fillText(name, 0, bottom - 9);
      context.fillStyle = colours.of("line");
      context.fillRect(left, bottom, width - left, 1);
      context.fillStyle = colours.of(`speaker-${number % 8}`);
      this.looks.forEach((jobs, index) => {
        const tall = Math.min(1, (jobs[name] ?? 0) / Math.max(1, this.most[name])) * (row - 9);
        if (tall) context.fillRect(left + (index + COLUMNS - this.looks.length) * column, bottom - tall, Math.max(1, column - 0.5), tall);
      });
    });
    colours.done();
  }
}
