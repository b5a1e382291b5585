// One segment: its text is corrected, and all of it or the marked words are given to another speaker.

import { clock } from "./clock.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { wordsWithin } from "./spelling.js";

const OTHER = "\u0000";

/** onChange(changes). play(seconds): null where there is no recording at hand. */
export function editSegment(transcript, number, onChange, play) {
  const segment = transcript.segments[number];
  const text = h("textarea", { id: "edit-text", rows: "4", lang: segment.language || transcript.head.language });
  text.value = segment.text;
  const others = transcript.head.speakers.filter((name) => name !== segment.speaker);
  const speaker = h("select", { id: "edit-speaker", onchange: update }, h("option", { value: "" }, `${segment.speaker} (as now)`), others.map((name) => h("option", { value: name }, name)), h("option", { value: OTHER }, "Somebody new…"));
  const name = h("input", { id: "edit-name", type: "text", maxlength: "100", placeholder: "Name", "aria-label": "Name of the new speaker", hidden: true });
  const told = h("small", { id: "edit-told", role: "status" });
  let marked = null; // words that are selected in the text, within the segment

  function update() {
    const same = text.value === segment.text;
    const [from, to] = [text.selectionStart, text.selectionEnd];
    if (document.activeElement === text) marked = same && to > from ? wordsWithin(segment, from, to) : null;
    if (marked && (marked[0] < 0 || !same)) marked = null;
    name.hidden = speaker.value !== OTHER;
    const count = marked ? marked[1] - marked[0] : segment.words.length;
    told.textContent = speaker.value === "" ? "Mark words in the text to give only these to another speaker." : marked ? `The ${count === 1 ? "marked word goes" : `${count} marked words go`} to that speaker.` : "All of this goes to that speaker.";
  }

  for (const event of ["input", "select", "keyup", "mouseup"]) text.addEventListener(event, update);
  update();
  openDialog(
    `What ${segment.speaker} says at ${clock(segment.start)}`,
    [
      h("label", { for: "edit-text" }, "Text"),
      text,
      h("label", { for: "edit-speaker" }, "Said by"),
      h("div", { class: "row" }, speaker, name),
      told,
      h("div", { class: "actions" }, play && h("button", { type: "button", class: "button", onclick: () => play(segment.start) }, "Play it"), h("button", { class: "primary" }, "Save")),
    ],
    () => {
      const changes = [];
      const to = speaker.value === OTHER ? name.value.trim() : speaker.value;
      const [first, past] = [segment.first, segment.first + segment.words.length];
      // The speaker first: a correction may change the number of words.
      if (to) changes.push({ type: "assign", first: first + (marked ? marked[0] : 0), past: marked ? first + marked[1] : past, speaker: to });
      if (text.value.trim() !== segment.text) changes.push({ type: "correct", first, past, text: text.value });
      if (changes.length) return onChange(changes);
    },
  );
  text.focus();
}
