// One task, whatever has become of it.

import { ask, getJson } from "./api.js";
import { h, icon, sayError } from "./dom.js";
import { ProgressView } from "./progress.js";
import { load } from "./transcript.js";
import { TranscriptView } from "./transcript_view.js";

const ADVICE = {
  cancelled: "It was stopped before it was done.",
  expired: "Transcripts are kept for a time only, and this one's is over. Send the recording again.",
};

export class TaskView {
  /** handlers: deleted(), ended(). */
  constructor(id, features, handlers) {
    Object.assign(this, { id, features, handlers });
    this.element = h("div", { class: "task", "aria-busy": "true" }, h("p", { class: "hint" }, "One moment…"));
    this.stop = new AbortController();
    this.open().catch((error) => this.fail(error));
  }

  async open() {
    const { status } = await getJson(`status/${this.id}`, { signal: this.stop.signal });
    if (this.stop.signal.aborted) return;
    await this.show(status);
  }

  async show(status) {
    document.title = `${status.filename} · diarserve`;
    this.element.setAttribute("aria-busy", "false");
    this.inner?.close?.();
    if (status.status === "queued" || status.status === "processing") {
      this.use(new ProgressView(status, (ended) => {
        this.handlers.ended();
        this.show(ended).catch((error) => this.fail(error));
      }));
    } else if (status.status === "completed") {
      await this.showTranscript();
    } else {
      this.inner = null;
      this.element.replaceChildren(this.ended(status));
    }
  }

  use(view) {
    this.inner = view;
    this.element.replaceChildren(view.element);
  }

  async showTranscript() {
    const onPiece = (transcript) => {
      if (this.stop.signal.aborted) return;
      if (this.inner instanceof TranscriptView) this.inner.grown();
      else this.use(new TranscriptView(this.id, transcript, this.features, this.handlers.deleted));
    };
    const transcript = await load(this.id, onPiece, this.stop.signal);
    onPiece(transcript);
    this.inner?.complete();
  }

  ended(status) {
    return h(
      "div",
      { class: "empty" },
      h("a", { class: "plain back", href: "#/", "aria-label": "Back to the list" }, icon("left")),
      h("h1", {}, status.filename),
      h("p", { class: status.status === "failed" ? "problem" : "hint" }, status.error ?? ADVICE[status.status]),
      h("div", { class: "actions" }, h("button", { class: "button", onclick: () => this.remove() }, icon("trash"), "Remove from the list")),
    );
  }

  async remove() {
    try {
      await ask(`tasks/${this.id}`, { method: "DELETE" });
      this.handlers.deleted();
    } catch (error) {
      sayError(error);
    }
  }

  fail(error) {
    if (error.name === "AbortError") return;
    this.element.setAttribute("aria-busy", "false");
    this.element.replaceChildren(h("div", { class: "empty" }, h("h1", {}, "This cannot be shown"), h("p", { class: "problem" }, error.message), error.status === 404 && h("p", {}, "It may have been deleted, or belong to another access key."), h("a", { class: "button", href: "#/" }, "Back to the list")));
  }

  close() {
    this.stop.abort();
    this.inner?.close?.();
  }
}
