// What was changed in a transcript, and the way back.

import { moment } from "./clock.js";
import { openDialog } from "./dialog.js";
import { h } from "./dom.js";
import { described } from "./revisions.js";

/** history: as the server tells it. onRestore(revision). */
export function showHistory(history, onRestore) {
  const entry = (revision, title, lines) =>
    h(
      "li",
      {},
      h("div", {}, h("strong", {}, title), lines.map((line) => h("small", {}, line))),
      revision !== history.length && h("button", { type: "button", class: "button", onclick: () => { close(); onRestore(revision); } }, "Restore"),
    );
  const entries = history.toReversed().map((one) => entry(one.revision, `Revision ${one.revision}, ${moment(one.created_at)}`, one.changes.slice(0, 5).map(described)));
  const close = openDialog("Revisions", [h("ol", { class: "history", reversed: true }, ...entries, entry(0, "As the models wrote it", []))]);
}
