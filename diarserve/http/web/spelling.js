// The words of a segment as its text has them: not every language has spaces between them.

/** [[what stands before the word, the word], ...] */
export function spelled({ text, words }) {
  let end = 0;
  return words.map(({ word }) => {
    const found = text.indexOf(word, end);
    const start = found < 0 ? end : found;
    const before = text.slice(end, start) || (found < 0 && end ? " " : "");
    end = start + (found < 0 ? 0 : word.length);
    return [before, word];
  });
}

/** Which words a stretch of the segment's text touches, as [first, past] within the segment. */
export function wordsWithin(segment, from, to) {
  let at = 0;
  let [first, past] = [-1, -1];
  spelled(segment).forEach(([before, word], index) => {
    const start = at + before.length;
    at = start + word.length;
    if (start < to && at > from) {
      if (first < 0) first = index;
      past = index + 1;
    }
  });
  return [first, past];
}
