// How loud a WAV file of 16-bit samples is, from end to end, read in pieces: 4 h are 460 MB, of which 4 MB are in
// memory at a time. Other files are answered null: the browser decodes them, where they are short.

const BINS = 2000;
const PIECE = 4 * 2 ** 20; // bytes

onmessage = async ({ data: file }) => {
  try {
    postMessage(await peaks(file));
  } catch {
    postMessage(null);
  }
};

async function peaks(file) {
  const head = new DataView(await file.slice(0, 65536).arrayBuffer());
  const name = (at) => String.fromCharCode(...new Uint8Array(head.buffer, at, 4));
  if (head.byteLength < 44 || name(0) !== "RIFF" || name(8) !== "WAVE") return null;
  let [at, channels] = [12, 0];
  while (at + 8 <= head.byteLength && name(at) !== "data") {
    if (name(at) === "fmt ") {
      const [kind, bits] = [head.getUint16(at + 8, true), head.getUint16(at + 22, true)];
      if (kind !== 1 || bits !== 16) return null;
      channels = head.getUint16(at + 10, true);
    }
    at += 8 + head.getUint32(at + 4, true) + (head.getUint32(at + 4, true) & 1);
  }
  if (at + 8 > head.byteLength || !channels) return null;
  const start = at + 8;
  const samples = Math.floor((file.size - start) / 2);
  const found = new Float32Array(BINS);
  for (let first = 0; first < samples; first += PIECE / 2) {
    const past = Math.min(samples, first + PIECE / 2);
    const piece = new Int16Array(await file.slice(start + 2 * first, start + 2 * past).arrayBuffer());
    for (let index = 0; index < piece.length; index += 4) {
      const bin = Math.floor(((first + index) / samples) * BINS);
      const loud = Math.abs(piece[index]) / 32768;
      if (loud > found[bin]) found[bin] = loud;
    }
  }
  const loudest = found.reduce((most, one) => Math.max(most, one), 0.01);
  return found.map((one) => one / loudest);
}
