// A task that is under way: how far each stage is, and what is heard so far. By server-sent events.

import { ask, events } from "./api.js";
import { clock } from "./clock.js";
import { h, icon, sayError } from "./dom.js";

const STAGES = { decode: "Reading the file", separate: "Freeing the voices", transcribe: "Writing the words", align: "Timing the words", diarize: "Telling speakers apart" };

export class ProgressView {
  /** onEnd(status): told when the task has ended. */
  constructor(status, onEnd) {
    this.id = status.task_id;
    this.onEnd = onEnd;
    this.stop = new AbortController();
    this.speakers = [];
    this.bars = {};
    this.note = h("p", { class: "hint", role: "status" }, this.place(status));
    this.said = h("div", { class: "so-far", "aria-label": "Heard so far", role: "log", tabindex: "0" });
    this.element = h(
      "div",
      { class: "progress" },
      h("h1", {}, status.filename),
      this.note,
      h("div", { class: "stages" }, Object.keys(status.stages).map((stage) => this.bar(stage, status.stages[stage]))),
      h("div", { class: "actions" }, h("button", { class: "button", onclick: () => this.cancel() }, icon("stop"), "Stop and discard")),
      this.said,
    );
    this.follow();
  }

  place(status) {
    if (status.queue_position) return `Waiting; number ${status.queue_position} in the queue.`;
    if (status.stage === "waiting_for_storage") return "Waiting until there is room on the server's disk.";
    return "At work. You may close this page: the transcript will be in the list.";
  }

  bar(stage, percent) {
    const bar = h("progress", { max: 100, value: percent, id: `stage-${stage}` });
    const number = h("span", { class: "number" }, `${Math.round(percent)} %`);
    this.bars[stage] = { bar, number };
    return h("div", { class: `stage ${stage}` }, h("label", { for: `stage-${stage}` }, STAGES[stage] ?? stage), bar, number);
  }

  async follow() {
    while (!this.stop.signal.aborted) {
      try {
        for await (const [name, data] of events(`events/${this.id}`, this.stop.signal)) {
          if (name === "progress") this.show(data);
          else if (name === "segment") this.add(data);
          else if (name === "done") return this.onEnd(data);
        }
      } catch (error) {
        if (error.name === "AbortError") return;
        if (error.status) return sayError(error);
      }
      this.note.textContent = "The connection broke off. Trying again; the server goes on meanwhile.";
      await new Promise((resume) => setTimeout(resume, 2000));
      this.said.replaceChildren();
    }
  }

  show(progress) {
    this.note.textContent = this.place(progress);
    for (const [stage, percent] of Object.entries(progress.stages)) {
      if (!this.bars[stage]) continue;
      this.bars[stage].bar.value = percent;
      this.bars[stage].number.textContent = `${Math.round(percent)} %`;
    }
  }

  add(sentence) {
    if (sentence.speaker && !this.speakers.includes(sentence.speaker)) this.speakers.push(sentence.speaker);
    const colour = sentence.speaker ? this.speakers.indexOf(sentence.speaker) % 8 : "none";
    const down = this.said.scrollHeight - this.said.scrollTop - this.said.clientHeight < 60;
    this.said.append(h("p", { class: `speaker-${colour}` }, h("time", {}, clock(sentence.start)), sentence.speaker && h("b", {}, sentence.speaker), h("span", {}, sentence.text)));
    if (down) this.said.scrollTop = this.said.scrollHeight;
  }

  async cancel() {
    try {
      await ask(`tasks/${this.id}`, { method: "DELETE" });
    } catch (error) {
      sayError(error);
    }
  }

  close() {
    this.stop.abort();
  }
}
