"""One loaded Whisper model (faster-whisper's, on CTranslate2): chunks of speech to words."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from ctranslate2 import Device, StorageView
from faster_whisper import WhisperModel
from faster_whisper.tokenizer import _LANGUAGE_CODES as LANGUAGES
from faster_whisper.tokenizer import Tokenizer
from faster_whisper.transcribe import get_suppressed_tokens, merge_punctuations

from workers.engine import Interim
from workers.media.samples import Samples
from workers.messages import SAMPLE_RATE, Word
from workers.whisper import languages
from workers.whisper.decoding import Decoding, Written
from workers.whisper.languages import Odds
from workers.whisper.texts import repetitive, sentences
from workers.whisper.vad import CHUNK_SECONDS, Chunk

WINDOW_SECONDS = 30.0  # what Whisper was trained on; its encoder takes less too, at less cost,
TAIL_SECONDS = 3.0  # but without this much silence after the speech it loses words
FRAMES_PER_SECOND = 100
# Speech is never faster; a model that loops is. Other languages than English take more tokens for as much speech.
TOKENS_PER_SECOND, ENGLISH_TOKENS_PER_SECOND, SPARE_TOKENS = 12, 6, 9

NO_SPEECH, LOW_LOGPROB = 0.6, -1.0  # Whisper's own thresholds for silence
BEST_OF = 5  # samples, of which the most likely is taken
INTERIM_TOKENS = 40  # 30 s of speech have about 100
PREPENDED, APPENDED = "\"'“¿([{-", "\"'.。,，!！?？:：”)]}、"


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a model, also when it is unloaded."""

    device: str
    compute_type: str
    multilingual: bool
    languages: frozenset[str]


class Recognizer:
    """`batched`: whether to encode and align all chunks of a step at once. A GPU is faster so; on a CPU one at a time
    is, since the attention of several does not fit into the caches."""

    def __init__(
        self,
        folder: Path,
        device: str,
        index: int,
        compute_type: str,
        *,
        threads: int,
        parallel: int,
        batched: bool,
    ) -> None:
        self.model = WhisperModel(
            str(folder),
            device=device,
            device_index=index,
            compute_type=compute_type,
            cpu_threads=threads,
            num_workers=parallel,
        )
        self.batched = batched
        inner = self.model.model
        self.traits = Traits(
            f"{inner.device}:{index}" if index else inner.device,
            inner.compute_type,
            inner.is_multilingual,
            frozenset(code for code in LANGUAGES if self._knows(code)),
        )
        self._tokenizers: dict[tuple[str, str], Tokenizer] = {}

    def _knows(self, language: str) -> bool:
        if not self.model.model.is_multilingual:
            return language == "en"
        known: int | None = self.model.hf_tokenizer.token_to_id(f"<|{language}|>")
        return known is not None

    def unload(self) -> None:
        self.model.model.unload_model()

    def warm_up(self, decoding: Decoding) -> None:
        hiss = np.random.default_rng(0).normal(0, 0.01, int(CHUNK_SECONDS * SAMPLE_RATE)).astype(np.float32)
        chunk = Chunk(hiss, ((0, hiss.size),))
        tokenizer = self._tokenizer(decoding)
        encoded = self._encode([chunk], chunk.seconds)
        self._generate(encoded, 0.0, tokenizer, decoding)
        self._align([chunk], encoded, [tokenizer.encode(" Hello there.")], tokenizer, decoding)

    def detect(self, chunk: Chunk) -> Odds:
        [odds] = self._odds(self._encode([chunk], chunk.seconds))
        return odds

    def _odds(self, encoded: Any) -> list[Odds]:
        """Per chunk. It costs one step of the decoder."""
        ranked = self.model.model.detect_language(encoded)
        return [{token[2:-2]: probability for token, probability in chunk} for chunk in ranked]  # as "<|en|>"

    def write(self, chunks: Sequence[Chunk], decoding: Decoding) -> Generator[Interim | None, None, list[Written]]:
        """The words of each chunk, in its own language where the decoding names none. It yields between the parts of
        the work, where a step may be left.

        With `decoding.interim` and one chunk of many tokens, its first sentences are written on their own, and yielded
        before the rest is: half way through 30 s of speech instead of at its end, for a third more CPU time
        (CTranslate2 reads what is given as the beginning token by token). Chunks that share a step cannot begin with
        texts of different lengths.
        """
        longest = max(chunk.seconds for chunk in chunks)
        size = len(chunks) if self.batched else 1
        groups = [slice(start, start + size) for start in range(0, len(chunks), size)]
        encoded = []
        for group in groups:
            encoded.append(self._encode(chunks[group], longest))
            yield None
        if decoding.language is not None:
            words = yield from self._write(chunks, encoded, groups, longest, decoding)
            return [Written(part, decoding.language) for part in words]
        odds = [one for storage in encoded for one in self._odds(storage)]
        written = [Written((), languages.sure(one), one) for one in odds]
        for language in dict.fromkeys(part.language for part in written if part.language):
            mine = [index for index, part in enumerate(written) if part.language == language]
            some = [chunks[index] for index in mine]
            if len(mine) == len(chunks):
                storages, parts = encoded, groups
            elif self.batched:  # there is no slicing a GPU's storage
                storages, parts = [self._encode(some, longest)], [slice(0, len(some))]
            else:
                storages, parts = [encoded[index] for index in mine], [slice(at, at + 1) for at in range(len(mine))]
            words = yield from self._write(some, storages, parts, longest, replace(decoding, language=language))
            for index, part in zip(mine, words, strict=True):
                written[index] = Written(part, language, odds[index])
        return written

    def _write(
        self,
        chunks: Sequence[Chunk],
        encoded: Sequence[Any],
        groups: Sequence[slice],
        longest: float,
        decoding: Decoding,
    ) -> Generator[Interim | None, None, list[tuple[Word, ...]]]:
        """The words of chunks that are in one language. `groups`: the chunks of each storage in `encoded`, which was
        made for `longest` seconds."""
        tokenizer = self._tokenizer(decoding)
        beginning = tokenizer.encode(decoding.beginning) if decoding.beginning else []
        texts: list[list[int]] = []
        if decoding.interim and len(chunks) == 1:
            written = self._generate(encoded[0], longest, tokenizer, decoding, most=INTERIM_TOKENS)
            if len(written[0]) < INTERIM_TOKENS:
                texts = written
            elif beginning := sentences(written[0], tokenizer):
                yield Interim(0, self._align(chunks, encoded[0], [beginning], tokenizer, decoding)[0])
        texts = texts or self._generate(_stack(encoded), longest, tokenizer, decoding, beginning=beginning)
        loops = [index for index, text in enumerate(texts) if repetitive(tokenizer.decode(text))]
        if loops:
            storage = (
                self._encode([chunks[index] for index in loops], longest)  # there is no slicing a GPU's storage
                if self.batched
                else _stack([encoded[index] for index in loops])
            )
            again = self._generate(storage, longest, tokenizer, decoding, beginning=beginning, no_repeat_ngram_size=3)
            for index, text in zip(loops, again, strict=True):
                texts[index] = text
        words: list[tuple[Word, ...]] = []
        for group, storage in zip(groups, encoded, strict=True):
            yield None
            words += self._align(chunks[group], storage, texts[group], tokenizer, decoding)
        return words

    def _tokenizer(self, decoding: Decoding) -> Tokenizer:
        language, task = decoding.language or "en", decoding.task
        if (language, task) not in self._tokenizers:
            made = Tokenizer(self.model.hf_tokenizer, self.traits.multilingual, task=task, language=language)
            if task == "translate":
                made.language_code = "en"  # the text is English: its words are parted at spaces
            self._tokenizers[language, task] = made
        return self._tokenizers[language, task]

    def _encode(self, chunks: Sequence[Chunk], seconds: float) -> Any:
        """The encoder's output, shape (chunks, frames of 20 ms, width), for `seconds` and some silence. It stays on
        its device."""
        frames = 2 * math.ceil(window(seconds) * FRAMES_PER_SECOND / 2)
        return self.model.encode(np.stack([self._features(chunk, frames) for chunk in chunks]))

    def _features(self, chunk: Chunk, frames: int) -> Samples:
        """Log-mel features, shape (mels, frames). The padding is silence before the logarithm, as in training."""
        extract = self.model.feature_extractor
        samples = chunk.samples()
        silence = max(0, frames * extract.hop_length - samples.size)
        return np.asarray(extract(np.pad(samples, (0, silence)), padding=0)[:, :frames])

    def _generate(
        self,
        encoded: Any,
        seconds: float,
        tokenizer: Tokenizer,
        decoding: Decoding,
        *,
        beginning: Sequence[int] = (),
        most: int | None = None,
        **options: Any,
    ) -> list[list[int]]:
        """Text tokens per chunk; none where the model found no speech. All begin with the `beginning`, and have no more
        than `most`, where it is less than what can be spoken in so many seconds."""
        prompt = [*self._context(tokenizer, decoding), *tokenizer.sot_sequence, tokenizer.no_timestamps]
        if decoding.temperature > 0:
            options |= {"beam_size": 1, "num_hypotheses": BEST_OF, "sampling_topk": 0}
            options["sampling_temperature"] = decoding.temperature
        else:
            options["beam_size"] = decoding.beam
        rate = ENGLISH_TOKENS_PER_SECOND if tokenizer.language_code == "en" else TOKENS_PER_SECOND
        longest = int(SPARE_TOKENS + rate * seconds) if most is None else most
        # CTranslate2 writes half of max_length at most, and no more than what the prompt leaves of it.
        twice = 2 * longest
        results = self.model.model.generate(
            encoded,
            [[*prompt, *beginning]] * encoded.shape[0],
            max_length=min(self.model.max_length, max(twice, len(prompt) + longest)),
            suppress_tokens=get_suppressed_tokens(tokenizer, [-1]),
            return_scores=True,
            return_no_speech_prob=True,
            **options,
        )
        return [
            []
            if not beginning and result.no_speech_prob > NO_SPEECH and result.scores[0] < LOW_LOGPROB
            else [token for token in result.sequences_ids[0] if token < tokenizer.eot]
            for result in results
        ]

    def _context(self, tokenizer: Tokenizer, decoding: Decoding) -> list[int]:
        """What the model is given as the text before the recording: the hotwords and the end of the prompt, in half of
        its context window."""
        room = self.model.max_length // 2 - 1
        hotwords, prompt = (_text(tokenizer, text) for text in (decoding.hotwords, decoding.prompt))
        hotwords = hotwords[:room]
        prompt = prompt[max(0, len(prompt) - room + len(hotwords)) :]
        return [tokenizer.sot_prev, *hotwords, *prompt] if hotwords or prompt else []

    def _align(
        self,
        chunks: Sequence[Chunk],
        encoded: Any,
        texts: Sequence[list[int]],
        tokenizer: Tokenizer,
        decoding: Decoding,
    ) -> list[tuple[Word, ...]]:
        """Word times by cross-attention."""
        if not any(texts):
            return [()] * len(chunks)
        # More frames than the encoder put out would be read beyond its memory.
        frames = [min(math.ceil(chunk.seconds * FRAMES_PER_SECOND), 2 * encoded.shape[1]) for chunk in chunks]
        alignments = self.model.find_alignment(tokenizer, texts, encoded, frames)
        for alignment in alignments:
            merge_punctuations(alignment, PREPENDED, APPENDED)
        return [
            tuple(_word(chunk, timing, decoding.language or "") for timing in alignment if timing["word"].strip())
            for chunk, alignment in zip(chunks, alignments, strict=True)
        ]


def window(seconds: float) -> float:
    """How much the encoder takes for so many seconds of speech."""
    return min(seconds + TAIL_SECONDS, WINDOW_SECONDS)


def _stack(encoded: Sequence[Any]) -> Any:
    """One storage from several, along the batch."""
    if len(encoded) == 1:
        return encoded[0]
    return StorageView.from_array(np.concatenate([np.array(one.to_device(Device.cpu)) for one in encoded]))


def _text(tokenizer: Tokenizer, text: str | None) -> list[int]:
    """Tokens of plain text: "<|endoftext|>" in it means nothing."""
    plain = (text or "").strip()
    return [token for token in tokenizer.encode(" " + plain) if token < tokenizer.eot] if plain else []


def _word(chunk: Chunk, timing: Mapping[str, Any], language: str) -> Word:
    start, end = chunk.locate(float(timing["start"]), float(timing["end"]))
    return Word(timing["word"], round(start, 3), round(end, 3), round(float(timing["probability"]), 4), language)
