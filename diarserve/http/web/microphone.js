// The microphone, as pieces of 16-bit samples.

const WANTED = 16000; // Hz: what recognition wants. A browser that cannot do that gives its own rate.
const SLOWEST = 10_000; // milliseconds until a browser's audio runs

const PROBLEMS = {
  NotAllowedError: "The browser does not let this page use the microphone. Allow it beside the address, and try again.",
  NotFoundError: "There is no microphone. Connect one, and try again.",
  NotReadableError: "Another program holds the microphone. Close it, and try again.",
};

export class Microphone {
  /** onPiece(Int16Array). Throws an Error that says what to do. */
  static async open(onPiece) {
    if (!navigator.mediaDevices) throw new Error("Browsers give the microphone to pages over https (or on localhost) only. Ask the operator for the https address.");
    let stream;
    try {
      stream = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1, echoCancellation: false, noiseSuppression: true, autoGainControl: true } });
    } catch (error) {
      throw new Error(PROBLEMS[error.name] ?? `The microphone cannot be used: ${error.message}`);
    }
    let [context, source] = connect(stream, { sampleRate: WANTED });
    if (!source) [context, source] = connect(stream, {});
    const microphone = new Microphone(stream, context);
    try {
      await context.audioWorklet.addModule(new URL("recorder_worklet.js", import.meta.url));
      const recorder = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
      source.connect(recorder);
      await started(context);
      recorder.port.onmessage = ({ data }) => onPiece(data); // what has come before waits for this
    } catch (error) {
      microphone.close();
      throw new Error(`The browser cannot record: ${error.message} Reload the page, and try again.`);
    }
    return microphone;
  }

  constructor(stream, context) {
    Object.assign(this, { stream, context });
  }

  get rate() {
    return this.context.sampleRate;
  }

  close() {
    for (const track of this.stream.getTracks()) track.stop();
    if (this.context && this.context.state !== "closed") this.context.close();
  }
}

/** Without a loudspeaker the audio of some browsers never starts, and nothing says so. */
function started(context) {
  return Promise.race([
    context.resume(),
    new Promise((_, reject) => setTimeout(() => reject(new Error("Its audio does not start; it may need a loudspeaker or headphones.")), SLOWEST)),
  ]);
}

function connect(stream, options) {
  const context = new AudioContext(options);
  try {
    return [context, context.createMediaStreamSource(stream)];
  } catch {
    context.close(); // Firefox: not at another rate than the microphone's
    return [null, null];
  }
}
