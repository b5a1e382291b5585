// What one changes in a transcript, sent to the server, which keeps it.

import { getJson, sendJson } from "./api.js";

export class Revisions {
  constructor(task) {
    this.path = `result/${task}`;
  }

  /** changes: as docs/revisions.md has them. Throws ApiError, with the code revision_conflict where another was first. */
  async send(transcript, changes) {
    const { revision } = await sendJson("PATCH", this.path, { revision: transcript.revision, changes });
    return revision;
  }

  async history() {
    return (await getJson(`${this.path}/revisions`)).revisions;
  }
}

/** A change in a few words. */
export function described(change) {
  switch (change.type) {
    case "rename":
      return `${change.speaker} is ${change.name}`;
    case "assign":
      return `${change.past - change.first} ${change.past - change.first === 1 ? "word" : "words"} to ${change.speaker}`;
    case "correct":
      return change.text.trim() ? `text: “${change.text.length > 60 ? `${change.text.slice(0, 60)}…` : change.text}”` : "words taken out";
    default:
      return `back to ${change.revision ? `revision ${change.revision}` : "what the models wrote"}`;
  }
}
