// One speaker gets a name, becomes one with another, or is kept as a known voice.

import { openDialog } from "./dialog.js";
import { h, say, sayError } from "./dom.js";
import { enrolSpeaker } from "./enrolment.js";

/** onChange(changes). recording: the user's file, or undefined; canEnrol: whether the server keeps voices. */
export function nameSpeaker(transcript, speaker, onChange, recording, canEnrol) {
  const others = transcript.head.speakers.filter((name) => name !== speaker);
  const input = h("input", { id: "speaker-name", type: "text", maxlength: "100", list: "speaker-names", autocomplete: "off", required: true });
  input.value = /^(SPEAKER_\d+|UNKNOWN)$/.test(speaker) ? "" : speaker;
  const all = `All that ${speaker} says gets this name.`;
  const note = h("small", { role: "status" }, all);
  input.addEventListener("input", () => {
    note.textContent = others.includes(input.value.trim()) ? `${speaker} and ${input.value.trim()} become one speaker.` : all;
  });
  const enrol = canEnrol && speaker !== "UNKNOWN" && h(
    "button",
    { type: "button", class: "button", disabled: !recording, title: recording ? "" : "Choose the recording first, below the transcript.", onclick: keep },
    "Keep as a known voice",
  );

  async function keep() {
    const name = input.value.trim();
    if (!name) return input.reportValidity();
    close();
    try {
      const seconds = await enrolSpeaker(transcript, speaker, name, recording);
      say(`${name} is a known voice now, by ${Math.round(seconds)} s of speech.`);
      if (name !== speaker) await onChange([{ type: "rename", speaker, name }]);
    } catch (error) {
      sayError(error);
    }
  }

  const close = openDialog(
    `Who is ${speaker}?`,
    [
      h("label", { for: "speaker-name" }, "Name"),
      input,
      h("datalist", { id: "speaker-names" }, others.map((name) => h("option", { value: name }))),
      note,
      h("div", { class: "actions" }, enrol, h("button", { class: "primary" }, "Save")),
    ],
    () => input.value.trim() && input.value.trim() !== speaker && onChange([{ type: "rename", speaker, name: input.value.trim() }]),
  );
  input.select();
}
