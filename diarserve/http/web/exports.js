// A transcript outside of the page: as a file, on the clipboard, on paper.

import { ask } from "./api.js";
import { clock } from "./clock.js";
import { h, say, sayError } from "./dom.js";
import { menu } from "./menu.js";

const NAMES = { text: "Text", srt: "SubRip subtitles (SRT)", vtt: "Web subtitles (VTT)", json: "JSON, all there is", tsv: "Table (TSV)", rttm: "Turns (RTTM)", ctm: "Words (CTM)", stm: "Segments (STM)" };
const SUFFIXES = { text: "txt" };

/** A menu of every format. */
export function downloadMenu(task, filename, formats) {
  const stem = filename.replace(/\.[^.]*$/, "") || "transcript";
  const items = Object.keys(NAMES).filter((name) => formats.includes(name));
  return menu(
    [{ class: "button" }, "Download"],
    items.map((name) => h("button", { class: "plain", "data-format": name, onclick: () => download(task, name, `${stem}.${SUFFIXES[name] ?? name}`).catch(sayError) }, NAMES[name])),
  );
}

async function download(task, format, name) {
  const blob = await (await ask(`result/${task}?format=${format}`)).blob();
  const url = URL.createObjectURL(blob);
  h("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

export async function copy(transcript) {
  const lines = transcript.segments.map((segment) => `${clock(segment.start)} ${segment.speaker}: ${segment.text}`);
  try {
    await navigator.clipboard.writeText(lines.join("\n"));
    say("The transcript is on the clipboard.");
  } catch {
    say("The browser does not let this page use the clipboard. Download the text instead.", "error");
  }
}

/** Put the whole transcript on the page while it is printed: else only what is in sight is there. Returns what ends it. */
export function printable(transcriptOf) {
  let sheet;
  const before = () => {
    const { head, segments } = transcriptOf();
    sheet = h("div", { class: "print" }, h("h1", {}, head.filename), segments.map((segment) => h("p", {}, h("b", {}, `${clock(segment.start)} ${segment.speaker}: `), segment.text)));
    document.body.append(sheet);
  };
  const after = () => sheet?.remove();
  addEventListener("beforeprint", before);
  addEventListener("afterprint", after);
  return () => {
    removeEventListener("beforeprint", before);
    removeEventListener("afterprint", after);
    after();
  };
}
