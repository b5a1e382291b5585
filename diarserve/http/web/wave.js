// The recording from end to end: its loudness, and under it a lane for each speaker's turns. One clicks to go there.

import { clock } from "./clock.js";
import { h } from "./dom.js";
import { coloursIn } from "./theme.js";

const WAVE = 40; // pixels
const LANE = 7;

export class Wave {
  /** onSeek(seconds). */
  constructor(transcript, onSeek) {
    this.onSeek = onSeek;
    this.peaks = null; // from 0 to 1, evenly over the recording
    this.now = 0;
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.head = h("div", { class: "playhead" });
    this.element = h(
      "div",
      { class: "wave", role: "slider", tabindex: "0", "aria-label": "Position in the recording", "aria-valuemin": "0", onpointerdown: (event) => this.pressed(event), onkeydown: (event) => this.key(event) },
      this.canvas,
      this.head,
    );
    this.sizes = new ResizeObserver(() => this.draw());
    this.sizes.observe(this.element);
    this.redraw = () => this.draw();
    addEventListener("themechange", this.redraw);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", this.redraw);
    this.take(transcript);
  }

  take(transcript) {
    this.transcript = transcript;
    this.element.setAttribute("aria-valuemax", String(Math.round(transcript.head.duration)));
    this.at(this.now);
    this.draw();
  }

  show(peaks) {
    this.peaks = peaks;
    this.draw();
  }

  at(seconds) {
    this.now = seconds;
    this.head.style.transform = `translateX(${(seconds / this.transcript.head.duration) * this.element.clientWidth}px)`;
    const whole = String(Math.round(seconds));
    if (whole !== this.told) {
      this.told = whole;
      this.element.setAttribute("aria-valuenow", whole);
      this.element.setAttribute("aria-valuetext", clock(seconds));
    }
  }

  draw() {
    const width = this.element.clientWidth;
    if (!width) return;
    const { speakers, duration } = this.transcript.head;
    const lanes = Math.min(speakers.length, 12);
    const height = (this.peaks ? WAVE : 4) + lanes * LANE + 4;
    const scale = devicePixelRatio || 1;
    this.canvas.width = width * scale;
    this.canvas.height = height * scale;
    this.element.style.height = this.canvas.style.height = `${height}px`;
    const context = this.canvas.getContext("2d");
    context.scale(scale, scale);
    const colours = coloursIn(this.element);
    if (this.peaks) {
      context.fillStyle = colours.of("wave");
      for (let x = 0; x < width; x += 2) {
        const tall = Math.max(1, (this.peaks[Math.floor((x / width) * this.peaks.length)] ?? 0) * (WAVE - 4));
        context.fillRect(x, (WAVE - tall) / 2, 1.4, tall);
      }
    }
    const top = this.peaks ? WAVE + 2 : 4;
    for (const turn of this.transcript.turns) {
      const lane = speakers.indexOf(turn.speaker) % 12;
      context.fillStyle = colours.of(`speaker-${this.transcript.colour(turn.speaker)}`);
      context.fillRect((turn.start / duration) * width, top + lane * LANE, Math.max(1, ((turn.end - turn.start) / duration) * width), LANE - 2);
    }
    colours.done();
    this.at(this.now);
  }

  pressed(event) {
    const box = this.element.getBoundingClientRect();
    this.onSeek(((event.clientX - box.left) / box.width) * this.transcript.head.duration);
  }

  key(event) {
    const { duration } = this.transcript.head;
    const to = { ArrowLeft: this.now - 5, ArrowRight: this.now + 5, PageUp: this.now + 60, PageDown: this.now - 60, Home: 0, End: duration }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    this.onSeek(Math.min(duration, Math.max(0, to)));
  }

  close() {
    this.sizes.disconnect();
    removeEventListener("themechange", this.redraw);
    matchMedia("(prefers-color-scheme: dark)").removeEventListener("change", this.redraw);
  }
}
