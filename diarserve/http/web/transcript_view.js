// A finished transcript: read, listened to, searched, corrected, taken away.

import { ask } from "./api.js";
import { length } from "./clock.js";
import { openDialog } from "./dialog.js";
import { h, icon, say, sayError } from "./dom.js";
import { editSegment } from "./edit_dialog.js";
import { copy, downloadMenu, printable } from "./exports.js";
import { showHistory } from "./history_dialog.js";
import { menu } from "./menu.js";
import { peaksOf } from "./peaks.js";
import { Player } from "./player.js";
import { keepRecording, recordingOf } from "./recordings.js";
import { Revisions } from "./revisions.js";
import { SearchBox } from "./search_box.js";
import { SegmentList } from "./segment_list.js";
import { listen, SHORTCUTS } from "./shortcuts.js";
import { nameSpeaker } from "./speaker_dialog.js";
import { load } from "./transcript.js";
import { Wave } from "./wave.js";

export class TranscriptView {
  /** transcript: perhaps still growing. onDeleted(). */
  constructor(id, transcript, features, onDeleted) {
    Object.assign(this, { id, transcript, features, onDeleted });
    this.revisions = new Revisions(id);
    this.following = true;
    this.canRevise = true;
    this.list = new SegmentList(transcript, {
      onWord: (word) => this.hear(word),
      onEdit: (number) => this.edit(number),
      onSpeaker: (name) => this.name(name),
    });
    this.search = new SearchBox(this.list);
    this.player = new Player((seconds) => this.at(seconds), (file) => file && this.useRecording(file));
    this.wave = new Wave(transcript, (seconds) => this.go(seconds));
    this.legend = h("ul", { class: "legend", "aria-label": "Speakers" });
    this.undo = h("button", { class: "plain", title: "Undo", "aria-label": "Undo the last change", onclick: () => this.change([{ type: "restore", revision: this.transcript.revision - 1 }]) }, icon("undo"));
    this.element = h("div", { class: "transcript" }, this.head(), this.legend, this.list.element, h("div", { class: "foot" }, this.wave.element, this.player.element));
    this.endPrint = printable(() => this.transcript);
    this.endKeys = listen(this.keys());
    this.showLegend();
    const recording = recordingOf(id);
    if (recording) this.useRecording(recording);
  }

  head() {
    const { head } = this.transcript;
    const facts = [length(head.duration), `${head.words.toLocaleString()} words`, head.language];
    const unsure = h("input", { type: "range", id: "unsure", min: "0", max: "100", step: "5", value: "50", onchange: () => this.setUnsure(Number(unsure.value) / 100) });
    return h(
      "div",
      { class: "head" },
      h("a", { class: "plain back", href: "#/", "aria-label": "Back to the list" }, icon("left")),
      h("div", { class: "title" }, h("h1", {}, head.filename), h("p", { class: "hint" }, facts.join(" · "))),
      h(
        "div",
        { class: "tools" },
        this.search.element,
        this.undo,
        h("button", { class: "plain", title: "Copy", "aria-label": "Copy the transcript", onclick: () => copy(this.transcript) }, icon("copy")),
        h("button", { class: "plain", title: "Print", "aria-label": "Print the transcript", onclick: () => print() }, icon("print")),
        downloadMenu(this.id, head.filename, this.features.formats.output),
        menu(
          [{ class: "button", "aria-label": "More" }, "⋯"],
          [
            h("label", { class: "slider", for: "unsure" }, "Mark words less sure than", unsure, h("span", { id: "unsure-told" }, "50 %")),
            h("button", { class: "plain", onclick: () => this.history() }, "Revisions"),
            h("button", { class: "plain", onclick: () => this.help() }, "Keys and marks"),
            h("button", { class: "plain danger", onclick: () => this.remove() }, icon("trash"), "Delete"),
          ],
        ),
      ),
    );
  }

  /** The transcript has more of its segments. */
  grown() {
    this.list.grown();
  }

  /** All of it is here. */
  complete() {
    this.wave.take(this.transcript);
    this.element.dataset.complete = "";
    for (const warning of this.transcript.head.warnings) say(warning);
  }

  showLegend() {
    const { head } = this.transcript;
    this.undo.hidden = !this.transcript.revision;
    this.legend.replaceChildren(
      ...head.speakers.map((name) => h("li", {}, h("button", { class: `chip speaker-${this.transcript.colour(name)}`, title: "Name this speaker", onclick: () => this.name(name) }, name, icon("edit")))),
    );
  }

  keys() {
    const player = this.player;
    return {
      " ": () => player.toggle(),
      k: () => player.toggle(),
      arrowleft: () => player.skip(-5),
      arrowright: () => player.skip(5),
      j: () => player.skip(-10),
      l: () => player.skip(10),
      "<": () => player.faster(-1),
      ">": () => player.faster(1),
      "/": () => this.search.input.focus(),
      e: () => this.edit(this.transcript.segmentOf(Math.max(0, this.list.marks.current))),
      f: () => this.follow(),
      "?": () => this.help(),
    };
  }

  follow() {
    this.following = !this.following;
    say(this.following ? "The spoken word stays in sight." : "The page stays where you scroll it.");
  }

  useRecording(file) {
    keepRecording(this.id, file);
    this.player.load(file);
    peaksOf(file, this.transcript.head.duration).then((peaks) => peaks && this.wave.show(peaks), () => {});
  }

  hear(word) {
    this.list.speak(word);
    if (this.player.ready) this.player.playFrom(this.transcript.starts[word]);
    else this.wave.at(this.transcript.starts[word]);
  }

  go(seconds) {
    if (this.player.ready) this.player.seek(seconds);
    const word = Math.max(0, this.transcript.wordAt(seconds));
    this.wave.at(seconds);
    this.list.speak(word);
    this.list.reveal(word, true);
  }

  at(seconds) {
    this.wave.at(seconds);
    const word = this.transcript.wordAt(seconds);
    if (word === this.list.marks.current) return;
    this.list.speak(word);
    if (word >= 0 && this.following && !this.player.audio.paused) this.list.reveal(word);
  }

  setUnsure(share) {
    this.list.marks.unsure = share;
    document.getElementById("unsure-told").textContent = `${Math.round(100 * share)} %`;
    this.list.remark();
  }

  edit(number) {
    if (number < this.transcript.segments.length) editSegment(this.transcript, number, (changes) => this.change(changes), this.player.ready ? (seconds) => this.player.playFrom(seconds) : null);
  }

  name(speaker) {
    nameSpeaker(this.transcript, speaker, (changes) => this.change(changes), recordingOf(this.id), this.features.features.stored_voices);
  }

  async change(changes) {
    try {
      await this.revisions.send(this.transcript, changes);
    } catch (error) {
      sayError(error.code === "revision_conflict" ? new Error("Somebody else changed this transcript meanwhile. It is shown as it is now: make your change again.") : error);
      if (error.code !== "revision_conflict") return;
    }
    await this.reload().catch(sayError);
  }

  async reload() {
    this.transcript = await load(this.id);
    this.list.take(this.transcript);
    this.wave.take(this.transcript);
    this.showLegend();
    if (this.search.input.value) this.search.look();
  }

  async history() {
    try {
      showHistory(await this.revisions.history(), (revision) => this.change([{ type: "restore", revision }]));
    } catch (error) {
      sayError(error);
    }
  }

  help() {
    const marks = [["unsure", "the model is not sure of the word"], ["who", "or of who said it"], ["overlap", "somebody else speaks too"], ["found", "what you search for"]];
    openDialog("Keys and marks", [
      h("dl", { class: "keys" }, SHORTCUTS.flatMap(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)]), marks.flatMap(([name, what]) => [h("dt", {}, h("span", { class: `w ${name}` }, "word")), h("dd", {}, what)])),
    ]);
  }

  remove() {
    openDialog("Delete this transcript?", [h("p", {}, "It is removed from the server with its revisions. It cannot be brought back."), h("div", { class: "actions" }, h("button", { class: "primary danger" }, "Delete"))], async () => {
      try {
        await ask(`tasks/${this.id}`, { method: "DELETE" });
        this.onDeleted();
      } catch (error) {
        sayError(error);
      }
    });
  }

  close() {
    this.endKeys();
    this.endPrint();
    this.player.close();
    this.wave.close();
    this.list.close();
  }
}
