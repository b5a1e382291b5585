// Recordings are dropped or chosen here, and sent one after the other, two at a time.

import { upload } from "./api.js";
import { length } from "./clock.js";
import { byId, h, icon, sayError } from "./dom.js";
import { chosenOptions, optionsForm } from "./options.js";
import { keepRecording } from "./recordings.js";

const AT_ONCE = 2;

export class Drop {
  /** onAccepted: told the task's id when the server has a recording. */
  constructor(features, onAccepted) {
    this.onAccepted = onAccepted;
    this.waiting = [];
    this.sending = 0;
    this.input = h("input", { type: "file", id: "files", multiple: true, accept: "audio/*,video/*,.mkv,.amr,.opus,.m4a", class: "hidden-input", onchange: () => this.take(this.input.files) });
    this.list = h("ul", { class: "uploads", "aria-label": "Uploads" });
    const longest = features.limits.max_audio_seconds;
    this.element = h(
      "section",
      { class: "drop", "aria-label": "Add recordings" },
      this.input,
      h("label", { for: "files", class: "target" }, icon("upload"), h("strong", {}, "Drop recordings here"), h("span", {}, "or choose files"), h("small", {}, `Sound or video, up to ${longest >= 3600 ? `${Math.floor(longest / 3600)} h` : length(longest)} each`)),
      h("details", {}, h("summary", {}, "Options"), optionsForm(features)),
      this.list,
    );
    this.listen();
  }

  /** Files may be dropped anywhere on the page. */
  listen() {
    addEventListener("dragover", (event) => {
      if (!event.dataTransfer.types.includes("Files")) return;
      event.preventDefault();
      document.body.classList.add("dragging");
    });
    addEventListener("dragleave", (event) => event.relatedTarget === null && document.body.classList.remove("dragging"));
    addEventListener("drop", (event) => {
      document.body.classList.remove("dragging");
      if (event.defaultPrevented || !event.dataTransfer.files.length) return;
      event.preventDefault();
      this.take(event.dataTransfer.files);
    });
  }

  take(files) {
    const options = chosenOptions();
    for (const file of files) this.waiting.push({ file, options, row: this.row(file) });
    this.input.value = "";
    this.next();
  }

  row(file) {
    const bar = h("progress", { max: 1, value: 0, "aria-label": `Sending ${file.name}` });
    const stop = new AbortController();
    const cancel = h("button", { class: "plain", type: "button", "aria-label": `Do not send ${file.name}`, onclick: () => stop.abort() }, icon("close"));
    const note = h("small", {}, "waiting");
    const element = h("li", {}, h("span", { class: "name" }, file.name), bar, note, cancel);
    this.list.append(element);
    stop.signal.addEventListener("abort", () => element.remove());
    return { element, bar, note, signal: stop.signal };
  }

  next() {
    while (this.sending < AT_ONCE && this.waiting.length) {
      this.sending += 1;
      this.send(this.waiting.shift()).finally(() => {
        this.sending -= 1;
        this.next();
      });
    }
  }

  async send({ file, options, row }) {
    if (row.signal.aborted) return;
    const form = new FormData();
    for (const [name, value] of Object.entries(options)) form.append(name, value);
    form.append("file", file, file.name);
    try {
      const accepted = await upload("transcribe/async", form, (share) => {
        row.bar.value = share;
        row.note.textContent = share < 1 ? `${Math.round(100 * share)} %` : "being checked";
      }, row.signal);
      keepRecording(accepted.task_id, file);
      this.onAccepted(accepted.task_id, this.waiting.length + this.sending === 1);
    } catch (error) {
      sayError(Object.assign(error, error.name === "AbortError" ? {} : { message: `${file.name}: ${error.message}` }));
    } finally {
      row.element.remove();
    }
  }

  choose() {
    byId("files").click();
  }
}
