// Where a text is said. Pure: it knows no page.

import { wordsWithin } from "./spelling.js";

const PIECE = 300; // segments: a few milliseconds of work

/**
 * The numbers of the words of each place, in order: [[first, past], ...]; a piece of the transcript at a time, so that
 * whoever asks may let the page breathe between.
 */
export function* find(transcript, text) {
  const wanted = text.trim().toLowerCase();
  if (!wanted) return;
  for (let start = 0; start < transcript.segments.length; start += PIECE) {
    yield transcript.segments.slice(start, start + PIECE).flatMap((segment) => within(segment, wanted));
  }
}

function within(segment, wanted) {
  const found = [];
  const said = segment.text.toLowerCase();
  for (let at = said.indexOf(wanted); at >= 0; at = said.indexOf(wanted, at + wanted.length)) {
    const [first, past] = wordsWithin(segment, at, at + wanted.length);
    if (first >= 0) found.push([segment.first + first, segment.first + past]);
  }
  return found;
}
