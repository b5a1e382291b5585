// A speaker's voice, cut out of the recording that the browser has, and kept by the server.

import { ask } from "./api.js";
import { quantized, wav } from "./wav.js";

const RATE = 16000;
const MOST = 30; // seconds of speech
const SHORTEST = 0.5; // seconds of a piece of it
const LONGEST = 90 * 60; // seconds of a recording that can be decoded here

/** When this speaker speaks and nobody else does, the longest first, as [start, end] in seconds. */
export function undisturbed(transcript, speaker) {
  const others = transcript.turns.filter((turn) => turn.speaker !== speaker); // sorted by start
  const alone = [];
  for (const turn of transcript.turns) {
    if (turn.speaker !== speaker) continue;
    let from = turn.start;
    for (const other of others) {
      if (other.end <= from || other.start >= turn.end) continue;
      alone.push([from, other.start]);
      from = other.end;
    }
    alone.push([from, turn.end]);
  }
  return alone.filter(([start, end]) => end - start >= SHORTEST).sort((one, other) => other[1] - other[0] - (one[1] - one[0]));
}

/** Returns the seconds of speech that the server found. Throws ApiError. */
export async function enrolSpeaker(transcript, speaker, name, recording) {
  if (transcript.head.duration > LONGEST) throw new Error("This recording is too long to cut a voice out of it here. Store the voice from a short recording, under Voices.");
  const buffer = await new OfflineAudioContext(1, 1, RATE).decodeAudioData(await recording.arrayBuffer());
  const samples = buffer.getChannelData(0);
  const pieces = [];
  let seconds = 0;
  for (const [start, end] of undisturbed(transcript, speaker)) {
    if (seconds >= MOST) break;
    pieces.push(quantized(samples.subarray(Math.floor(start * RATE), Math.floor(Math.min(end, start + MOST - seconds) * RATE))));
    seconds += end - start;
  }
  if (!pieces.length) throw new Error(`${speaker} never speaks alone in this recording. Store the voice from another one, under Voices.`);
  return (await enrol(name, wav(pieces, RATE))).seconds;
}

/** Returns the stored voice. Throws ApiError. */
export async function enrol(name, file) {
  const form = new FormData();
  form.append("name", name);
  form.append("files", file, file.name ?? "voice.wav");
  return (await ask("voices", { method: "POST", body: form })).json();
}
