// A finished transcript, as the page holds it. Words are counted through all segments, as the server counts them.

import { address, ApiError, keyHeaders, problem } from "./api.js";

const COLOURS = 8;

export class Transcript {
  constructor(head) {
    this.head = head;
    this.segments = []; // as the server's, each with `first`: the number of its first word
    this.turns = [];
    this.words = 0;
    this.starts = new Float64Array(head.words); // of the words
    this.ends = new Float64Array(head.words);
  }

  get revision() {
    return this.head.revision ?? 0;
  }

  add(segments) {
    for (const segment of segments) {
      segment.first = this.words;
      for (const word of segment.words) {
        this.starts[this.words] = word.start;
        this.ends[this.words] = word.end;
        this.words += 1;
      }
      this.segments.push(segment);
    }
  }

  /** Of a speaker: which of the colours, a number from 0. */
  colour(speaker) {
    const place = this.head.speakers.indexOf(speaker);
    return speaker === "UNKNOWN" || place < 0 ? "none" : place % COLOURS;
  }

  /** The number of the word that is spoken then, or was last; -1 before the first. */
  wordAt(seconds) {
    let [low, high] = [0, this.words];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.starts[middle] <= seconds) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The number of the segment that holds a word. */
  segmentOf(word) {
    let [low, high] = [0, this.segments.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.segments[middle].first <= word) low = middle + 1;
      else high = middle;
    }
    return Math.max(0, low - 1);
  }
}

/** Get a task's transcript. onPiece is told of the transcript as it grows. Throws ApiError. */
export function load(task, onPiece, signal) {
  const worker = new Worker(new URL("transcript_worker.js", import.meta.url), { type: "module" });
  signal?.addEventListener("abort", () => worker.terminate());
  return new Promise((resolve, reject) => {
    let transcript;
    worker.onmessage = ({ data }) => {
      if (data.head) transcript = new Transcript(data.head);
      else if (data.segments) transcript.add(data.segments);
      else if (data.turns) transcript.turns.push(...data.turns);
      else worker.terminate();
      if (data.failed) reject(data.failed.status ? problem(data.failed.status, data.failed.text) : new ApiError(0, "unreachable", "The transcript could not be fetched. Is the server running?"));
      else if (data.done) resolve(transcript);
      else onPiece?.(transcript);
    };
    worker.onerror = () => reject(new ApiError(0, "worker", "The browser could not start a worker for the transcript."));
    worker.postMessage({ url: address(`result/${task}?format=json`).href, headers: keyHeaders() });
  });
}
