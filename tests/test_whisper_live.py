"""Incremental recognition with the embedded Whisper, fed faster than real time; and its parts without a model."""

from __future__ import annotations

from difflib import SequenceMatcher
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from tests.support.text import plain
from workers.messages import SAMPLE_RATE, AudioRef, Cancel, Done, Failed, Listen, Submit, Transcribe, Word
from workers.messages.live import Append, Awaiting, Heard, LiveWords
from workers.runtime.scheduler import Scheduler
from workers.whisper.agreement import Agreement, following, without_echo
from workers.whisper.endpoints import Endpoints
from workers.whisper.engine import Whisper
from workers.whisper.vad import WINDOW


def said(text: str, first: float = 0.0) -> list[Word]:
    return [Word(f" {word}", first + at, first + at + 0.5, 0.9) for at, word in enumerate(text.split())]


def texts(words: list[Word]) -> str:
    return "".join(word.word for word in words).strip()


def test_words_are_final_once_two_hypotheses_agree_whatever_their_punctuation() -> None:
    agreement = Agreement()
    assert agreement.add(said("this is, a")) == []
    assert texts(agreement.add(said("This is the house"))) == "This is"
    assert texts(agreement.add(said("the house, that", 2))) == "the house,"
    assert texts(agreement.finish(said("that Jack built.", 4))) == "that Jack built."
    assert texts(agreement.final) == "This is the house, that Jack built."


def test_a_word_that_audio_was_cut_off_in_is_not_final_and_old_words_are_forgotten() -> None:
    agreement = Agreement()
    agreement.add(said("this is the house"))
    assert texts(agreement.add(said("this is the house"), before=2.6)) == "this is the"
    assert texts(agreement.hypothesis) == "house"
    assert texts(agreement.forget(1.5)) == "this is"
    assert texts(agreement.final) == "the"


def test_what_follows_a_known_text_is_told_by_its_letters() -> None:
    words = [Word(text, 0.0, 0.1, 0.9) for text in (" Well,", " I'm", " in New", " Jersey.")]
    assert texts(list(following(words, " Well, I'm"))) == "in New Jersey."
    assert following(words, "") == words
    assert list(following(words, " Well, I'm in New Jersey. Yes")) == []


def test_what_is_said_again_in_no_time_is_no_speech() -> None:
    spoken = said("and so my fellow Americans")
    again = [Word(f" {text}", 5 + 0.02 * at, 5.02 + 0.02 * at, 0.4) for at, text in enumerate(("And", "so", "my"))]
    assert without_echo([*spoken, *again]) == spoken
    new = [Word(" ask", 5.0, 5.02, 0.4)]
    assert without_echo([*spoken, *new]) == [*spoken, *new]
    assert without_echo([]) == []


def test_an_utterance_ends_after_the_silence_that_is_asked_for_and_a_click_is_none() -> None:
    ends = Endpoints(0.5)
    second = SAMPLE_RATE // WINDOW
    likely = np.array([0.0] * second + [0.9] * second + [0.1] * (second // 4) + [0.9] * second + [0.0] * 2 * second)
    assert list(ends.feed(likely[: 2 * second])) == []
    assert ends.start is not None
    [(start, end)] = ends.feed(likely[2 * second :])
    assert abs(start / SAMPLE_RATE - 0.8) < 0.05
    assert abs(end / SAMPLE_RATE - 3.45) < 0.1
    assert list(ends.feed(np.array([0.9, 0.9] + [0.0] * 2 * second))) == []


def test_live_words_are_about_those_of_the_file_and_a_second_worker_goes_on_from_a_state(sample: Path) -> None:
    engine, sent = Whisper(), SimpleQueue[object]()
    scheduler = Scheduler(engine, sent.put, fill=None, step_timeout=None)
    samples = (sample.stat().st_size - 44) // 2
    offline: list[Word] = []
    scheduler.take(Submit("file", "", Transcribe(AudioRef(str(sample), samples, 44)), 0.0))
    while not offline:
        if isinstance(message := sent.get(), Done):
            offline = list(message.result.words)

    heard: list[LiveWords] = []

    def listen(job: str, first: int, past: int, resume: bytes = b"") -> None:
        """Feed a tenth of a second whenever the job has nothing to do."""
        at = first
        scheduler.take(Submit(job, "", Listen(AudioRef(str(sample), at, 44), resume=resume), 0.0))
        while not isinstance(message := sent.get(), Done):
            assert not isinstance(message, Failed), message
            if isinstance(message, Heard):
                assert isinstance(message.output, LiveWords)
                heard.append(message.output)
            elif isinstance(message, Awaiting) and message.samples == at:
                if at == past:
                    return scheduler.take(Cancel(job))
                at = min(at + SAMPLE_RATE // 10, past)
                scheduler.take(Append(job, at, end=at == samples))
        return None

    listen("first worker", 0, samples // 2)
    listen("second worker", samples // 2, samples, heard[-1].state)
    scheduler.close()
    words = [word for output in heard for word in output.final]
    spoken, written = plain(texts(offline)).split(), plain(texts(words)).split()
    assert SequenceMatcher(None, spoken, written, autojunk=False).ratio() > 0.85
    assert all(word.start < word.end for word in words)
    assert heard[-1].utterance_end is not None
    assert any(output.interim for output in heard)
