// Talk, and see who says what. In the end the whole is a transcript like any other.

import { address } from "./api.js";
import { clock } from "./clock.js";
import { h, icon, sayError } from "./dom.js";
import { currentKey } from "./key.js";
import { LiveWords } from "./live_words.js";
import { Microphone } from "./microphone.js";
import { keepRecording } from "./recordings.js";
import { wav } from "./wav.js";

const BEHIND = 4; // seconds of lag that are worth a word

export class LiveView {
  /** onKept(task): told when the transcript of a session is there. onRecording(file): one that the user wants written. */
  constructor(features, onKept, onRecording) {
    Object.assign(this, { onKept, onRecording });
    document.title = "Live · diarserve";
    const multilingual = features.languages === null;
    this.language = h("input", { id: "live-language", type: "text", maxlength: "3", size: "6", placeholder: "detect" });
    this.keep = h("input", { id: "live-keep", type: "checkbox", checked: true });
    this.button = h("button", { class: "primary talk", onclick: () => this.toggle() }, icon("mic"), h("span", {}, "Start"));
    this.meter = h("meter", { min: 0, max: 1, low: 0.02, value: 0, "aria-label": "Loudness" });
    this.time = h("span", { class: "clock" }, "0:00");
    this.note = h("p", { class: "hint", role: "status" }, "Press Start and talk. What you say goes to this server and nowhere else.");
    this.rescue = h("div", { hidden: true }, h("button", { class: "button", onclick: () => this.onRecording(this.recorded()) }, icon("upload"), "Transcribe what was recorded"));
    this.place = h("div", { class: "live-words" });
    this.element = h(
      "div",
      { class: "live" },
      h("h1", {}, "Live"),
      h("div", { class: "live-bar" }, this.button, this.time, this.meter, multilingual && h("span", { class: "check" }, h("label", { for: "live-language" }, "Language"), this.language), h("span", { class: "check" }, this.keep, h("label", { for: "live-keep" }, "Keep the transcript"))),
      this.note,
      this.rescue,
      this.place,
    );
    this.state = "idle";
  }

  toggle() {
    if (this.state === "idle") this.start().catch((error) => this.fail(error));
    else if (this.state === "listening") this.finish();
  }

  become(state, note) {
    this.state = state;
    this.note.textContent = note;
    const listening = state === "listening";
    this.button.replaceChildren(icon(listening ? "stop" : "mic"), h("span", {}, listening ? "Stop" : "Start"));
    this.button.disabled = state === "starting" || state === "finishing";
    this.button.classList.toggle("on", listening);
    this.keep.disabled = this.language.disabled = state !== "idle";
  }

  async start() {
    this.become("starting", "Asking for the microphone…");
    this.pieces = [];
    this.samples = 0;
    this.time.textContent = clock(0);
    this.ended = false;
    this.task = null;
    this.words = new LiveWords();
    this.place.replaceChildren(this.words.element);
    this.rescue.hidden = true;
    this.microphone = await Microphone.open((piece) => this.heard(piece));
    if (this.leaving) return this.microphone.close(); // the page was left before the user allowed it
    const url = address("stream");
    url.protocol = url.protocol.replace("http", "ws");
    url.search = new URLSearchParams({ sample_rate: this.microphone.rate, keep: this.keep.checked, ...(this.language.value.trim() && { language: this.language.value.trim() }) });
    const key = currentKey();
    this.socket = new WebSocket(url, key ? ["token", key] : []);
    this.socket.onopen = () => {
      for (const piece of this.pieces) this.socket.send(piece);
      this.become("listening", "Listening.");
    };
    this.socket.onmessage = ({ data }) => this.told(JSON.parse(data));
    this.socket.onclose = ({ code, reason }) => this.closed(code, reason);
  }

  heard(piece) {
    if (this.state === "finishing") return;
    this.pieces.push(piece);
    this.samples += piece.length;
    this.time.textContent = clock(this.samples / this.microphone.rate);
    let loudest = 0;
    for (let index = 0; index < piece.length; index += 8) loudest = Math.max(loudest, Math.abs(piece[index]));
    this.meter.value = Math.sqrt(loudest / 32768); // nearer to what an ear takes for loud
    if (this.socket?.readyState === WebSocket.OPEN && this.state === "listening") this.socket.send(piece);
  }

  told(event) {
    if (event.type === "ready") this.task = event.task_id;
    else if (event.type === "lag") this.note.textContent = event.seconds > BEHIND ? `The server is ${Math.round(event.seconds)} s behind.` : "Listening.";
    else if (event.type === "spoken") this.note.textContent = "Every word is here. The whole is being done once more, with all of it known…";
    else if (event.type === "error") sayError(new Error(event.message));
    else if (event.type === "done") this.done();
    else this.words.take(event);
  }

  finish() {
    this.become("finishing", "Waiting for the last words…");
    this.microphone.close();
    this.meter.value = 0;
    this.socket.send(JSON.stringify({ type: "finish" }));
  }

  /** What the microphone has heard in this session. */
  recorded() {
    return new File([wav(this.pieces, this.microphone.rate)], "live.wav", { type: "audio/wav" });
  }

  done() {
    this.ended = true;
    if (this.keep.checked) {
      keepRecording(this.task, this.recorded());
      this.onKept(this.task);
    } else {
      this.become("idle", "Done. The server has kept nothing of it.");
    }
  }

  closed(code, reason) {
    if (this.ended || this.leaving) return;
    const why = { 1006: "The connection broke off, or the server takes no more live sessions now. Try again in a minute.", 1001: "The server is shutting down. Try again in a minute.", 1013: "The server is too busy. Try again in a minute." };
    this.fail(new Error(why[code] ?? (reason || "The session has ended.")));
  }

  fail(error) {
    this.microphone?.close();
    this.become("idle", error.message);
    this.rescue.hidden = !this.samples;
    sayError(error);
  }

  close() {
    this.leaving = true;
    if (this.state === "listening" || this.state === "starting") this.microphone?.close();
    this.socket?.close();
  }
}
