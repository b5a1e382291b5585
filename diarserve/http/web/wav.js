// WAV files of 16-bit samples, one channel.

/** pieces: Int16Arrays. */
export function wav(pieces, rate) {
  const size = pieces.reduce((sum, piece) => sum + piece.byteLength, 0);
  const head = new DataView(new ArrayBuffer(44));
  const text = (at, value) => [...value].forEach((letter, index) => head.setUint8(at + index, letter.charCodeAt(0)));
  text(0, "RIFF");
  head.setUint32(4, 36 + size, true);
  text(8, "WAVEfmt ");
  head.setUint32(16, 16, true);
  head.setUint16(20, 1, true);
  head.setUint16(22, 1, true);
  head.setUint32(24, rate, true);
  head.setUint32(28, 2 * rate, true);
  head.setUint16(32, 2, true);
  head.setUint16(34, 16, true);
  text(36, "data");
  head.setUint32(40, size, true);
  return new Blob([head, ...pieces], { type: "audio/wav" });
}

/** Samples from -1 to 1 as 16-bit ones. */
export function quantized(samples) {
  const made = new Int16Array(samples.length);
  for (let index = 0; index < samples.length; index += 1) {
    made[index] = Math.max(-1, Math.min(1, samples[index])) * 32767;
  }
  return made;
}
