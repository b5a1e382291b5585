from __future__ import annotations

import pytest

from diarserve.transcript.document import UNKNOWN
from diarserve.transcript.join import segments
from diarserve.transcript.merge import label
from workers.messages import SpeakerActivity, Turn, Word


def words(*spans: tuple[float, float]) -> list[Word]:
    return [Word(f" w{n}", start, end, 0.9) for n, (start, end) in enumerate(spans)]


def speakers(said: list[Word], turns: list[Turn]) -> str:
    return " ".join(word.speaker for word in label(said, turns))


def test_a_word_goes_to_whoever_covers_most_of_it() -> None:
    turns = [Turn(0, 2.1, "A"), Turn(2.1, 4, "B")]
    assert speakers(words((0.5, 1), (1.9, 2.2), (2.0, 2.6)), turns) == "A A B"


def test_no_turns_leaves_every_word_unknown_and_fails_nothing() -> None:
    [word] = label(words((0, 1)), [])
    assert (word.speaker, word.speaker_confidence, word.overlap) == (UNKNOWN, 0, False)
    assert label([], [Turn(0, 1, "A")]) == []


def test_a_word_between_turns_goes_to_the_nearest_edge() -> None:
    # A's long turn ends 0.05 s before the word; B's midpoint is nearer, B's edge is not.
    assert speakers(words((60.05, 60.3)), [Turn(0, 60, "A"), Turn(61, 62, "B")]) == "A"
    assert speakers(words((6.7, 6.9)), [Turn(0, 5.0, "A"), Turn(7, 8, "B")]) == "B"


def test_a_word_far_from_every_turn_is_nobodys() -> None:
    assert speakers(words((10, 11)), [Turn(0, 5, "A"), Turn(16, 20, "B")]) == UNKNOWN


def test_two_at_once_is_flagged_and_the_flow_goes_on() -> None:
    turns = [Turn(0, 3, "A"), Turn(1, 2, "B"), Turn(3, 5, "B")]
    said = label(words((0.2, 0.8), (1.2, 1.6), (2.2, 2.8), (3.2, 4)), turns)
    assert [word.speaker for word in said] == ["A", "A", "A", "B"]
    assert [word.overlap for word in said] == [False, True, False, False]
    assert said[0].speaker_confidence == 1
    assert said[1].speaker_confidence == 0.5


def test_a_back_channel_of_its_own_time_is_attributed() -> None:
    turns = [Turn(0, 2, "A"), Turn(2, 2.5, "B"), Turn(2.5, 5, "A")]
    assert speakers(words((1, 1.9), (2.05, 2.4), (2.6, 3)), turns) == "A B A"


def test_one_word_of_flicker_is_repaired_only_where_the_turns_are_unsure() -> None:
    said = words((0, 0.9), (0.95, 1.25), (1.3, 2))
    unsure = [Turn(0, 1.0, "A"), Turn(1.0, 1.1, "B"), Turn(1.25, 2, "A")]
    assert speakers(said, unsure) == "A A A"


def test_a_change_of_speaker_moves_to_the_end_of_the_sentence_beside_it() -> None:
    turns = [Turn(0, 2.0, "A"), Turn(2.0, 4, "B")]
    said = [Word(" now,", 1.5, 1.9, 1), Word(" though.", 2.05, 2.4, 1), Word(" Well,", 2.5, 3, 1)]
    assert speakers(said, turns) == "A A B"
    said = [Word(" Jersey.", 1.0, 1.6, 1), Word(" And", 1.7, 1.95, 1), Word(" I'm", 2.05, 2.4, 1)]
    assert speakers(said, turns) == "A B B"


def test_a_short_answer_stays_with_who_gave_it() -> None:
    turns = [Turn(0, 2.0, "A"), Turn(2.0, 4, "B")]
    said = [Word(" that", 1.5, 1.9, 1), Word(" Yes.", 2.05, 2.4, 1), Word(" I", 2.5, 2.6, 1), Word(" do", 2.6, 3, 1)]
    assert speakers(said, turns) == "A B B B"


def test_a_turn_that_began_long_ago_still_counts() -> None:
    turns = [Turn(0, 100, "A"), *(Turn(n, n + 0.2, "B") for n in range(1, 50))]
    assert speakers(words((80, 81)), sorted(turns, key=lambda turn: turn.start)) == "A"


def test_words_and_turns_without_length_fail_nothing() -> None:
    turns = [Turn(0, 2, "A"), Turn(0.5, 0.5, "B"), Turn(2, 2, "B"), Turn(2, 4, "C")]
    assert speakers(words((0.4, 0.6), (1, 1), (1.9, 2.0), (2, 2), (2.0, 2.4)), turns) == "A A A A C"


def test_segments_end_with_the_turn_the_pause_and_the_long_sentence() -> None:
    turns = [Turn(0, 5, "A"), Turn(5, 30, "B")]
    said = [
        Word(" do", 4.0, 4.4, 1), Word(" you?", 4.5, 4.9, 1), Word(" yes", 5.1, 5.4, 1), Word(" I", 5.5, 5.6, 1),
        Word(" after", 7.0, 7.5, 1), Word(" a", 8.0, 8.4, 1), Word(" long", 9.0, 12.0, 1),
        Word(" while.", 12.5, 16.0, 1), Word(" Next", 16.1, 16.5, 1),
    ]  # fmt: skip
    found = segments(label(said, turns))
    assert [(segment.speaker, segment.text) for segment in found] == [
        ("A", "do you?"), ("B", "yes I"), ("B", "after a long while."), ("B", "Next"),
    ]  # fmt: skip
    assert (found[0].start, found[0].end) == (4.0, 4.9)


@pytest.mark.parametrize("count", [0, 1, 1000])
def test_no_word_is_lost(count: int) -> None:
    said = words(*((n * 0.4, n * 0.4 + 0.3) for n in range(count)))
    turns = [Turn(n * 3.0, n * 3.0 + 2.5, f"S{n % 3}") for n in range(count // 5)]
    found = segments(label(said, turns))
    assert [word.word for segment in found for word in segment.words] == [word.word.strip() for word in said]


def activity(**levels: list[float]) -> SpeakerActivity:
    """A frame a second."""
    everyone = [round(255 * level) for own in levels.values() for level in own]
    return SpeakerActivity(0.0, 1.0, tuple(levels), bytes(everyone), 0.0, 5.0)


def test_confidence_is_the_more_the_clearer_it_is_who_speaks() -> None:
    said = words((0, 0.9), (1, 1.9), (2, 2.9))
    heard = activity(A=[1.0, 0.6, 0.4], B=[0.0, 0.4, 0.6])
    sure, likely, doubtful = (word.speaker_confidence for word in label(said, [Turn(0, 3, "A")], heard))
    assert 0.95 < sure < 1
    assert 0.6 < likely < 0.8
    assert doubtful == pytest.approx(1 - likely, abs=0.002)


def test_confidence_of_a_word_beyond_the_activity_is_of_its_last_frame() -> None:
    [before, after] = label(words((-1.0, -0.5), (7, 8)), [Turn(0, 6, "A")], activity(A=[1.0, 0.0]))
    assert before.speaker_confidence > 0.95
    assert after.speaker_confidence == 0.5


def test_a_speaker_without_activity_keeps_the_covered_share() -> None:
    said = words((0, 1), (9, 9.5))
    for heard in (activity(B=[1.0]), SpeakerActivity(0.0, 1.0, (), b"", 0.0, 5.0)):
        assert [word.speaker_confidence for word in label(said, [Turn(0, 0.5, "A")], heard)] == [0.5, 0]


def test_others_who_speak_during_a_word_are_listed() -> None:
    turns = [Turn(0, 3, "A"), Turn(0.5, 2, "B"), Turn(0.8, 2, "C"), Turn(3, 5, "B")]
    said = label(words((0.2, 0.4), (0.45, 1.0), (2.2, 2.8), (2.9, 4)), turns)
    assert [(word.speaker, word.other_speakers) for word in said] == [
        ("A", ()), ("A", ("B", "C")), ("A", ()), ("B", ("A",)),
    ]  # fmt: skip
    assert [word.overlap for word in said] == [bool(word.other_speakers) for word in said]


def test_of_a_word_that_is_moved_to_a_sentences_end_the_turns_speaker_is_listed() -> None:
    turns = [Turn(0, 2.0, "A"), Turn(2.0, 4, "B")]
    said = [Word(" now,", 1.5, 1.9, 1), Word(" though.", 2.05, 2.4, 1), Word(" Well,", 2.5, 3, 1)]
    moved = label(said, turns)[1]
    assert (moved.speaker, moved.speaker_confidence, moved.other_speakers) == ("A", 0, ("B",))
    assert label(said, turns, activity(A=[0.9, 0.9, 0.6], B=[0.0, 0.1, 0.4]))[1].speaker_confidence > 0.6
