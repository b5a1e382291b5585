// Where a text is said. Pure: it knows no page.

import { wordsWithin } from "./spelling.js";

/** The numbers of the words of each place, in order: [[first, past], ...]. */
export function find(transcript, text) {
  const wanted = text.trim().toLowerCase();
  const found = [];
  if (!wanted) return found;
  for (const segment of transcript.segments) {
    const said = segment.text.toLowerCase();
    for (let at = said.indexOf(wanted); at >= 0; at = said.indexOf(wanted, at + wanted.length)) {
      const [first, past] = wordsWithin(segment, at, at + wanted.length);
      if (first >= 0) found.push([segment.first + first, segment.first + past]);
    }
  }
  return found;
}
