"""The measuring scripts: their arithmetic, and the overhead's measurement on a small scale."""

from __future__ import annotations

import argparse
import json
import sys
import wave
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from bench import (
    demo,
    joining,
    load,
    overhead,
    peers,
    performance_test,
    results,
    scale,
    scaling,
    scoring,
    soak,
    tracing_cost,
)
from bench.soak_clients import Answer
from tests.support.conversations import conversation, voices
from tests.support.diarization_error import speakers
from tests.support.recordings import write_wav
from tests.support.server import configured, started
from workers.messages import Turn, Word


def test_a_section_replaces_only_its_own() -> None:
    report = results.with_section("# Results\n", "one", "first")
    report = results.with_section(report, "two", "second")
    report = results.with_section(report, "one", "third\nline")
    assert report == (
        "# Results\n\n<!-- one -->\nthird\nline\n<!-- /one -->\n\n<!-- two -->\nsecond\n<!-- /two -->\n"
    )  # fmt: skip


def test_figures_are_kept_with_their_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(results, "FOLDER", tmp_path)
    asked = argparse.Namespace(runs=2, write=True)
    results.publish("speed", "How fast", "| a |", {"seconds": [1, 2]}, asked)
    kept = json.loads((tmp_path / "results" / "speed.json").read_text())
    assert kept["seconds"] == [1, 2]
    assert kept["arguments"] == {"runs": 2}
    assert {"date", "commit", "cpu", "cores", "versions"} <= kept["machine"].keys()
    assert "## How fast\n\n| a |" in capsys.readouterr().out
    assert "## How fast" in (tmp_path / "RESULTS.md").read_text()
    asked.write = False
    results.publish("speed", "How slow", "", {}, asked)
    assert "slow" not in (tmp_path / "RESULTS.md").read_text()


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(100, 0, -1)]
    assert [results.percentile(values, share) for share in (0.5, 0.95, 0.99, 1.0)] == [50, 95, 99, 100]
    assert results.percentile([7.0], 0.5) == 7


def test_a_verdict_says_when_a_target_is_missed() -> None:
    assert results.verdict("speedup", 3.6, 3.5, most=False) == "- speedup: 3.60 (target >= 3.5): met"
    assert results.verdict("share", 0.34, 0.33, most=True) == "- share: 0.34 (target <= 0.33): **missed**"


def test_spread_and_mean() -> None:
    assert results.spread([3, 1, 2]) == "2.00 (1.00-3.00)"
    assert results.mean([1, 3]) == "2.00 ± 1.41"
    assert results.mean([2.5]) == "2.50"


def test_a_histogram_gives_its_quantile() -> None:
    text = "\n".join(
        f'diarserve_loop_lag_seconds_bucket{{le="{edge}"}} {count}'
        for edge, count in (("0.001", 90.0), ("0.005", 98.0), ("0.01", 100.0), ("+Inf", 100.0))
    )
    counts = overhead.buckets(f'# HELP x\n{text}\nother_bucket{{le="1"}} 5\n', "diarserve_loop_lag_seconds")
    assert counts == {0.001: 90, 0.005: 98, 0.01: 100, float("inf"): 100}
    assert overhead.quantile(counts, 0.99) == pytest.approx(0.0075)
    assert overhead.quantile({}, 0.99) is None


def test_what_traces_cost_is_compared_start_by_start() -> None:
    text = tracing_cost.report({"off": [0.002, 0.004, 0.003], "on": [0.003, 0.005, 0.0045]})
    assert "| off | 3.000 | - | - |" in text
    assert "| on | 4.500 | 1.500 (1.250-1.500) | 1000 (1000-1500) |" in text


def test_shares_of_a_profile_count_callees_and_recursion_once() -> None:
    assert overhead.inclusive("a;b;b 3\na;c 1\n") == [("a", 1.0), ("b", 0.75), ("c", 0.25)]


def test_the_models_overlap_is_told_from_their_times() -> None:
    timings = {"transcription_time": 4.0, "diarization_time": 2.0, "speedup_estimate": 1.5}
    assert performance_test.overlap(timings) == pytest.approx(1.0)  # 6 s of work in 4 s
    assert performance_test.overlap(timings | {"speedup_estimate": 1.2}) == pytest.approx(0.5)  # in 5 s


def test_every_design_goes_first_in_its_turn() -> None:
    assert [peers.turned(["a", "b", "c"], run)[0] for run in range(4)] == ["a", "b", "c", "a"]


def test_the_report_of_peers_compares_run_by_run() -> None:
    cpu = {"sequential": [1.0, 1.0], "diarserve": [1.0, 1.0]}
    timing = peers.Timing("a clip", {"sequential": [4.0, 6.0], "diarserve": [2.0, 2.0]}, cpu)
    text = peers.report([timing], {"sequential": {"WER": 0.1}, "diarserve": {"WER": 0.2}})
    assert "- a clip: diarserve is 2.50 (2.00-3.00) times as fast as sequential" in text
    assert "| diarserve | 0.200 |" in text


def test_long_recordings_are_compared_with_five_minutes() -> None:
    gib = 2**30
    row = {"words": 9, "speakers": 2, "peak_rss": {"server": gib, "whisper": 2 * gib}}
    text = scaling.lengths({"5": row | {"seconds": 10.0}, "60": row | {"seconds": 144.0}})
    assert "60 minutes against linear: 1.20 (target <= 1.1): **missed**" in text
    assert "largest worker at 60 minutes, GiB: 2.00 (target <= 4): met" in text


def test_load_counts_answers_by_their_time_and_failures_apart() -> None:
    answers = [(0.0, 2.0, True), (1.0, 3.0, True), (1.0, 0.1, False)]
    text = load.report([{"load": "open", "answers": answers}, {"load": "none", "answers": []}])
    assert "| open | 2 | 1 | 0.50 | 2.00 | 3.00 |" in text
    assert "| none | 0 | 0 |" in text


def test_memory_grows_within_the_life_of_a_worker_and_not_by_its_replacement() -> None:
    minutes = [
        soak.Sample(60.0 * minute, "whisper", pid, 1024 * (100 * minute + level), 9)
        for pid, level, lived in ((1, 0, range(20, 26)), (2, 9000, range(26, 32)))
        for minute in lived
    ]
    assert soak.slope(minutes) == pytest.approx(100.0)  # KB a minute
    assert soak.slope(minutes[:1]) != soak.slope(minutes[:1])  # NaN


def test_drift_compares_the_last_third_with_the_first() -> None:
    answers = [Answer("wait", float(at), 1.0 + at / 30, None) for at in range(31)]
    assert soak.drift(answers) == pytest.approx((1 + 25 / 30) / (1 + 5 / 30))


def test_a_recording_can_be_longer_than_its_speech(tmp_path: Path) -> None:
    write_wav(tmp_path / "long.wav", np.linspace(-1, 1, 1000, dtype=np.float32), 2.5)
    with wave.open(str(tmp_path / "long.wav")) as file:
        samples = np.frombuffer(file.readframes(9999), "<i2")
    assert samples.size == 2500
    assert (samples[1000:2000] == samples[:1000]).all()
    assert samples[2000] == samples[0]


def test_the_overhead_is_measured_beside_a_bare_handler() -> None:
    with started([sys.executable, "-m", "bench.bare"]) as bare, configured(overhead.NOTHING) as server:
        added = overhead.latencies((bare, server, server), 2)
        load = overhead.throughput(server, 2, 0.2)
    assert [len(seconds) for seconds in added.values()] == [2, 2, 2]
    assert load["rate"] > 0
    assert {"server", "decode", "whisper", "embedded", "client"} == load["cpu_per_job"].keys()
    text = overhead.report(added, [load])
    assert "| bare upload handler |" in text
    assert "jobs a second" in text


@pytest.mark.models
def test_the_demo_prints_who_said_what_and_its_timings(capsys: pytest.CaptureFixture[str]) -> None:
    demo.main()
    shown = capsys.readouterr().out
    assert "SPEAKER_01: " in shown
    assert "originally from Chicago" in shown
    assert "30.0 s of audio in " in shown
    assert "both models at once: " in shown


WORDS = [
    Word(" Hello", 0.0, 0.5, 1.0),
    Word(" there.", 0.5, 0.9, 1.0),
    Word(" Hi", 1.4, 1.6, 1.0),
    Word(" you.", 3.0, 3.2, 1.0),
]


def test_words_are_joined_by_others_rules() -> None:
    turns = [Turn(0.0, 0.6, "a"), Turn(0.6, 1.0, "b"), Turn(1.3, 2.0, "b")]
    assert [word.speaker for word in joining.whisperx(WORDS, turns)] == ["a", "b", "b", joining.NOBODY]
    assert [word.speaker for word in joining.whisper_diarization(WORDS, turns)] == ["a", "a", "b", "b"]
    assert [word.speaker for word in joining.whisper_diarization(WORDS, [])] == [joining.NOBODY] * 4


def test_a_sentence_goes_to_who_has_most_of_it() -> None:
    turns = [Turn(0.0, 0.45, "a"), Turn(0.46, 1.5, "b")]
    assert [word.speaker for word in joining.whisper_diarization(WORDS, turns)] == ["a", "a", "b", "b"]


def test_words_with_a_wrong_speaker_are_counted_under_the_best_naming() -> None:
    said = {"A 0": (0.0, "hello there"), "B 1": (1.0, "hi you")}
    named = [joining.NamedWord(word.word, speaker) for word, speaker in zip(WORDS, "xyyy", strict=True)]
    assert scoring.word_speaker_error(said, named) == 0.25
    assert scoring.word_speaker_error(said, [joining.NamedWord("hello", "x")]) == 0
    assert scoring.word_error_rate(said, named) == 0
    assert scoring.cp_wer(said, named) == 0.5


def test_a_conversation_is_the_same_for_its_seed_and_its_turns_hold_its_speech() -> None:
    of = voices()
    samples, turns = conversation(of, 3, speakers=2, seconds=20)
    again, _ = conversation(of, 3, speakers=2, seconds=20)
    np.testing.assert_array_equal(samples, again)
    assert speakers(turns) == 2
    assert any(later.start < turn.end for turn, later in pairwise(turns))
    spoken = np.zeros(len(samples), dtype=np.bool_)
    for turn in turns:
        spoken[round(turn.start * 16_000) : round(turn.end * 16_000)] = True
    assert np.square(samples[spoken]).mean() > 100 * np.square(samples[~spoken]).mean()


def test_servers_that_are_woken_cost_the_database_with_the_square_of_their_number() -> None:
    read = (json.loads((results.FOLDER / "results" / f"{name}.json").read_text()) for name in ("sizing", "store"))
    cost = scale.costs(*read)
    few, many = (scale.needs(gpus, scale.Load(speed=100), cost) for gpus in (101, 201))
    assert many.audio / few.audio == pytest.approx(201 / 101)
    assert many.woken / few.woken == pytest.approx(201 * 200 / (101 * 100))
    one = scale.needs(1, scale.Load(speed=100), cost)
    assert one.woken == 0
    assert one.requests / one.recordings == 2 * 2 + 6  # 9.6 MB in pieces of 8 MiB
    full = scale.most(scale.Load(speed=100), cost, 1)
    assert 1 < full < scale.most(scale.Load(speed=100, gpus_a_server=10), cost, 1)
