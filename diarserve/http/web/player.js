// Plays the user's own recording, and says which second it is at.

import { clock } from "./clock.js";
import { h, icon } from "./dom.js";

const SPEEDS = [0.5, 0.75, 1, 1.25, 1.5, 1.75, 2, 2.5, 3];

export class Player {
  /** onTime(seconds): many times a second while it plays. onFile(file): the user has chosen the recording. */
  constructor(onTime, onFile) {
    this.onTime = onTime;
    this.audio = new Audio();
    this.audio.preservesPitch = true;
    this.play = h("button", { class: "round", "aria-label": "Play", onclick: () => this.toggle() }, icon("play"));
    this.time = h("span", { class: "clock" }, "0:00");
    this.speed = h("select", { "aria-label": "Speed", onchange: () => (this.audio.playbackRate = Number(this.speed.value)) }, SPEEDS.map((speed) => h("option", { value: String(speed), selected: speed === 1 }, `${speed}×`)));
    const input = h("input", { type: "file", id: "recording", class: "hidden-input", accept: "audio/*,video/*,.mkv,.opus,.m4a", onchange: () => onFile(input.files[0]) });
    this.missing = h("span", { class: "missing" }, input, h("label", { class: "button", for: "recording" }, "Choose the recording to listen"), h("small", {}, "It stays in your browser: the server has not kept it."));
    this.controls = h(
      "span",
      { class: "controls", hidden: true },
      h("button", { class: "plain", "aria-label": "Back 5 seconds", onclick: () => this.skip(-5) }, icon("back")),
      this.play,
      h("button", { class: "plain", "aria-label": "Forward 5 seconds", onclick: () => this.skip(5) }, icon("forward")),
      this.time,
      this.speed,
    );
    this.element = h("div", { class: "player" }, this.controls, this.missing);
    this.audio.addEventListener("play", () => this.shown());
    this.audio.addEventListener("pause", () => this.shown());
    this.audio.addEventListener("seeked", () => this.tell());
    this.audio.addEventListener("error", () => this.audio.src && this.broken());
  }

  get ready() {
    return !this.controls.hidden;
  }

  load(file) {
    if (this.url) URL.revokeObjectURL(this.url);
    this.url = URL.createObjectURL(file);
    this.audio.src = this.url;
    this.controls.hidden = false;
    this.missing.hidden = true;
  }

  broken() {
    this.controls.hidden = true;
    this.missing.hidden = false;
    this.missing.lastChild.textContent = "Your browser cannot play this file. Choose it in another format, such as WAV, MP3 or M4A.";
  }

  toggle() {
    if (this.audio.paused) this.audio.play().catch(() => {});
    else this.audio.pause();
  }

  playFrom(seconds) {
    this.audio.currentTime = seconds;
    this.audio.play().catch(() => {});
  }

  seek(seconds) {
    this.audio.currentTime = Math.max(0, seconds);
    this.tell();
  }

  skip(by) {
    this.seek(this.audio.currentTime + by);
  }

  faster(by) {
    const place = SPEEDS.indexOf(this.audio.playbackRate) + by;
    this.audio.playbackRate = SPEEDS[Math.min(SPEEDS.length - 1, Math.max(0, place))];
    this.speed.value = String(this.audio.playbackRate);
  }

  shown() {
    const { paused } = this.audio;
    this.play.replaceChildren(icon(paused ? "play" : "pause"));
    this.play.setAttribute("aria-label", paused ? "Play" : "Pause");
    cancelAnimationFrame(this.frame);
    if (!paused) this.follow();
  }

  follow() {
    this.tell();
    this.frame = requestAnimationFrame(() => this.follow());
  }

  tell() {
    this.time.textContent = clock(this.audio.currentTime);
    this.onTime(this.audio.currentTime);
  }

  close() {
    cancelAnimationFrame(this.frame);
    this.audio.pause();
    this.audio.removeAttribute("src");
    if (this.url) URL.revokeObjectURL(this.url);
  }
}
