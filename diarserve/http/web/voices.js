// Known voices: stored, so that later transcripts call their speakers by name.

import { ask, getJson } from "./api.js";
import { length } from "./clock.js";
import { openDialog } from "./dialog.js";
import { h, icon, say, sayError } from "./dom.js";
import { enrol } from "./enrolment.js";

export class VoicesView {
  constructor() {
    document.title = "Voices · diarserve";
    const name = h("input", { id: "voice-name", type: "text", maxlength: "100", required: true });
    const file = h("input", { id: "voice-file", type: "file", accept: "audio/*,video/*", required: true });
    const add = async (event) => {
      event.preventDefault();
      try {
        const voice = await enrol(name.value.trim(), file.files[0]);
        say(`${voice.name} is a known voice now.`);
        event.target.reset();
        await this.refresh();
      } catch (error) {
        sayError(error);
      }
    };
    this.list = h("ul", { class: "voices" });
    this.element = h(
      "div",
      { class: "voices-view" },
      h("h1", {}, "Known voices"),
      h("p", { class: "hint" }, "Speakers whose voices are stored here are called by their names in new transcripts. Ask people before you store their voices."),
      h("form", { class: "row", onsubmit: add }, h("div", { class: "field" }, h("label", { for: "voice-name" }, "Name"), name), h("div", { class: "field" }, h("label", { for: "voice-file" }, "10 to 60 s of this person alone"), file), h("button", { class: "primary" }, "Store the voice")),
      this.list,
    );
    this.refresh().catch(sayError);
  }

  async refresh() {
    const { voices } = await getJson("voices");
    this.list.replaceChildren(...voices.map((voice) => this.row(voice)));
  }

  row(voice) {
    const remove = () =>
      openDialog(`Delete the voice of ${voice.name}?`, [h("p", {}, "Nothing of it stays. Transcripts keep the name."), h("div", { class: "actions" }, h("button", { class: "primary danger" }, "Delete"))], async () => {
        await ask(`voices/${voice.voice_id}`, { method: "DELETE" }).catch(sayError);
        await this.refresh().catch(sayError);
      });
    return h("li", {}, h("strong", {}, voice.name), h("small", {}, `${length(voice.seconds)} of speech, ${voice.samples.length} recording${voice.samples.length === 1 ? "" : "s"}`), h("button", { class: "plain", "aria-label": `Delete the voice of ${voice.name}`, onclick: remove }, icon("trash")));
  }
}
