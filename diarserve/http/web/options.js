// What may be asked of a transcription, as a form. Only what this server can do is shown.

import { h } from "./dom.js";

const LANGUAGES = ["en", "es", "fr", "de", "it", "pt", "nl", "pl", "ru", "uk", "tr", "ar", "he", "fa", "hi", "bn", "id", "vi", "th", "zh", "yue", "ja", "ko", "sv", "da", "no", "fi", "cs", "sk", "hu", "ro", "bg", "el", "hr", "sr", "ca"];

let count = 0;

function field(label, control, hint = "") {
  control.id = `option-${(count += 1)}`;
  const told = hint && h("small", { id: `${control.id}-hint` }, hint);
  if (hint) control.setAttribute("aria-describedby", `${control.id}-hint`);
  return h("div", { class: "field" }, h("label", { for: control.id }, label), control, told);
}

function check(name, label, hint) {
  const id = `option-${(count += 1)}`;
  return h(
    "div",
    { class: "check" },
    h("input", { type: "checkbox", name, id, value: "true", "aria-describedby": `${id}-hint` }),
    h("div", {}, h("label", { for: id }, label), h("small", { id: `${id}-hint` }, hint)),
  );
}

const select = (name, ...options) =>
  h("select", { name }, options.map(([value, text]) => h("option", { value }, text)));

/** features: as /features tells. */
export function optionsForm(features) {
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const known = features.languages ?? LANGUAGES;
  const languages = known.map((code) => [code, names.of(code)]).sort((one, other) => one[1].localeCompare(other[1]));
  const models = features.models.whisper?.models ?? [];
  const can = features.features;
  return h(
    "form",
    { class: "options", id: "options", onsubmit: (event) => event.preventDefault() },
    h(
      "div",
      { class: "fields" },
      field("Speakers", h("input", { name: "num_speakers", type: "number", min: "1", max: "100", placeholder: "not known" }), "How many people speak, if you know."),
      known.length > 1 && field("Language", select("language", ["", "Detect"], ...languages)),
      models.length > 1 && field("Model", select("whisper_model", ["", "Default"], ...models.map((name) => [name, name]))),
      features.diarizers.length > 1 && field("Diarizer", select("diarizer", ["", "Chosen for you"], ...features.diarizers.map((name) => [name, name]))),
      field("Names and terms", h("input", { name: "hotwords", type: "text", maxlength: "2000", placeholder: "Zoë, Kubernetes" }), "Words to expect, and how they are spelled."),
      field("Urgency", select("priority", ["", "Normal"], ["high", "High"], ["low", "Low"])),
    ),
    check("two_parties", "A call with one party in each channel", "The channel is the speaker."),
    can.stored_voices && can.known_speakers && check("known_voices", "Look for known voices", "Speakers whose voices are stored get their names."),
    can.source_separation && check("source_separation", "Free the voices of noise first", "For music and street noise. It takes longer."),
    can.enhanced_alignment && check("enhanced_alignment", "Exact word times", "By forced alignment. It takes longer."),
  );
}

/** What the form says, as fields of a request. */
export function chosenOptions() {
  const form = document.getElementById("options");
  const fields = {};
  for (const [name, value] of new FormData(form)) if (value !== "") fields[name] = value;
  if (fields.two_parties) {
    delete fields.two_parties;
    fields.channels = "separate";
  }
  return fields;
}
