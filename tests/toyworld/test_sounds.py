"""Sounds: their world is parted, what is said of them is true, and what they say can be measured in their samples."""

import random
from itertools import combinations, pairwise, product
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import ASTModel

from epalm.encoders import load_encoder
from epalm.toyworld.pictures.world import COUNTS, NUMBERS, SHAPES
from epalm.toyworld.pretrain_ast import (
    COLUMNS,
    LABEL_SIZES,
    column_labels_of,
    configuration,
    draw_batch,
    feature_extractor,
    labels_of,
    log_mels,
)
from epalm.toyworld.pretrain_vit import AttributeHeads
from epalm.toyworld.sounds.language import ask, caption_is_right, state_facts, state_notes, suppose, write_caption
from epalm.toyworld.sounds.synthesize import RATE, SAMPLES, save_sound, synthesize, synthesize_with_calls
from epalm.toyworld.sounds.world import BEDS, LOUDNESS, MOTIONS, Event, Sound, draw_sound, is_held_out
from epalm.toyworld.wording import plural

EVERY_EVENT = tuple(product(SHAPES, MOTIONS, LOUDNESS, COUNTS))
STARS = Event("star", "rising", "loud", 2)
RING = Event("ring", "steady", "quiet", 1)
SOUND = Sound("rain", (STARS, RING))


# --- world ----------------------------------------------------------------------------------------------------------


def test_a_fifth_of_the_combinations_is_held_out():
    held_out = [event for event in EVERY_EVENT if is_held_out(*event)]
    assert abs(len(held_out) - len(EVERY_EVENT) / 5) < 2


@pytest.mark.parametrize("places", list(combinations(range(4), 3)))
def test_any_three_attributes_occur_in_training(places):
    training = {tuple(event[place] for place in places) for event in EVERY_EVENT if not is_held_out(*event)}
    assert training == {tuple(event[place] for place in places) for event in EVERY_EVENT}


@pytest.mark.parametrize("held_out", [False, True])
def test_sounds_hold_only_their_own_kind(held_out):
    rng = random.Random(0)
    allowed = {Event(*event) for event in EVERY_EVENT if is_held_out(*event) == held_out}
    sounds = [draw_sound(rng, held_out=held_out) for _ in range(3000)]
    assert {event for sound in sounds for event in sound.events} == allowed
    assert all(len({event.shape for event in sound.events}) == len(sound.events) for sound in sounds)
    assert {(sound.bed, len(sound.events)) for sound in sounds} == set(product(BEDS, (1, 2)))


# --- language -------------------------------------------------------------------------------------------------------


def test_every_caption_is_right_of_its_sound_and_hardly_ever_of_another():
    rng = random.Random(1)
    sounds = [draw_sound(rng) for _ in range(2000)]
    captions = [write_caption(sound, rng) for sound in sounds]
    assert all(caption_is_right(caption, sound) for caption, sound in zip(captions, sounds, strict=True))
    shifted = zip(captions, sounds[1:], strict=False)
    assert sum(caption_is_right(caption, sound) for caption, sound in shifted) < 20


@pytest.mark.parametrize(
    ("caption", "right"),
    [
        ("two rising stars, then a steady ring.", True),
        ("two loud rising stars and then a quiet steady ring with rain in the background.", True),
        ("a steady ring, then two rising stars.", False),  # wrong order
        ("three rising stars, then a steady ring.", False),  # wrong count
        ("two falling stars, then a steady ring.", False),  # wrong motion
        ("two quiet rising stars, then a steady ring.", False),  # wrong loudness
        ("two rising hearts, then a steady ring.", False),  # wrong voice
        ("two rising stars, then a steady ring over hiss.", False),  # wrong bed
        ("two rising stars.", False),  # an event is missing
        ("two rising stars, then a steady ring, then a steady ring.", False),  # one too many
        ("two stars, then a ring.", False),  # no motion
        ("", False),
    ],
)
def test_the_judge_wants_every_event_in_its_order(caption, right):
    assert caption_is_right(caption, SOUND) is right


def test_facts_and_notes_state_everything():
    for seed in range(100):
        for statements in (state_facts(SOUND, random.Random(seed)), state_notes(SOUND)):
            text = " ".join(statement.text for statement in statements)
            assert SOUND.bed in text
            for event in SOUND.events:
                words = (event.shape, event.motion, event.loudness, NUMBERS[event.count])
                assert all(word in text for word in words), text


def _named(question: str, sound: Sound) -> list[Event]:
    """The events that the question names, in the order of time."""
    words = question.split()
    return [event for event in sound.events if event.shape in words or plural(event.shape, 2) in words]


def test_questions_are_answered_truly():
    """What a question's kind and words ask for is looked up in the sound, another way than the question was made."""
    rng = random.Random(2)
    kinds = set()
    for _ in range(5000):
        sound = draw_sound(rng)
        asked = ask(sound, rng)
        named, question = _named(asked.question, sound), asked.question
        kinds.add(asked.kind)
        if asked.kind == "count":
            assert asked.answer == (NUMBERS[named[0].count] if named else "zero")
        elif asked.kind in ("motion", "loudness"):
            place = -1 if question.endswith("last") else 0
            assert asked.answer == getattr((named or sound.events)[place], asked.kind), question
        elif asked.kind == "shape" and question.endswith((" first", " last")):
            assert asked.answer == sound.events[0 if question.endswith("first") else -1].shape
        elif asked.kind == "shape" and named:
            assert asked.answer == next(event.shape for event in sound.events if event not in named), question
        elif asked.kind == "presence":
            motion = next((word for word in MOTIONS if word in question.split()), None)
            there = bool(named) and motion in (None, named[0].motion)
            assert asked.answer == ("yes" if there else "no"), question
        elif asked.kind == "property":
            said = question.split()[-1]
            assert asked.answer == ("yes" if said in (named[0].motion, named[0].loudness) else "no"), question
        elif asked.kind == "bed":
            said = [bed for bed in BEDS if bed in question.split()]
            assert asked.answer == (("yes" if said == [sound.bed] else "no") if said else sound.bed), question
    assert kinds == {"shape", "motion", "loudness", "count", "bed", "presence", "property", "comparison"}


def test_comparisons_are_answered_truly():
    rng = random.Random(3)
    seen = set()
    for _ in range(3000):
        sound = draw_sound(rng, events=2)
        asked = suppose(sound, rng)
        if asked.kind != "comparison":
            continue
        words = asked.question.split()
        first, second = sorted(sound.events, key=lambda event: asked.question.index(event.shape))
        truths = {
            "before": first is sound.events[0],
            "after": first is sound.events[1],
            "more": first.count > second.count,
            "fewer": first.count < second.count,
            "louder": (first.loudness, second.loudness) == ("loud", "quiet"),
        }
        relation = next(word for word in truths if word in words)
        seen.add(relation)
        assert asked.answer == ("yes" if truths[relation] else "no"), asked.question
    assert seen == {"before", "after", "more", "fewer", "louder"}


# --- samples --------------------------------------------------------------------------------------------------------


def _alone(shape: str, motion: str = "steady", loudness: str = "loud", count: int = 1, bed: str = "silence") -> Sound:
    return Sound(bed, (Event(shape, motion, loudness, count),))


def _bursts(samples: np.ndarray) -> int:
    """How often there is sound after at least 40 ms of hardly any."""
    level = np.abs(samples[: len(samples) // 160 * 160]).reshape(-1, 160).max(axis=1)  # every 10 ms
    loud = np.flatnonzero(level > 0.05 * level.max())
    return 1 + int((np.diff(loud) > 4).sum())


def _power(samples: np.ndarray) -> float:
    return float(np.mean(samples.astype(np.float64) ** 2))


def test_a_sound_follows_from_what_it_says_and_the_lot():
    rng = random.Random(4)
    for bed in BEDS:
        sound = Sound(bed, draw_sound(rng).events)
        first, again, other = (synthesize(sound, random.Random(seed)) for seed in (1, 1, 2))
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_samples_are_within_range_and_as_many_as_the_encoder_takes():
    rng = random.Random(5)
    for _ in range(50):
        samples = synthesize(draw_sound(rng), rng)
        assert samples.dtype == np.float32
        assert samples.shape == (SAMPLES,)
        assert 0.01 < np.abs(samples).max() < 1


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("count", COUNTS)
def test_calls_can_be_counted(shape, count):
    for seed in range(10):
        for motion in MOTIONS:
            assert _bursts(synthesize(_alone(shape, motion, count=count), random.Random(seed))) == count


def test_two_events_have_a_half_each_and_calls_do_not_touch():
    rng = random.Random(6)
    for _ in range(50):
        sound = draw_sound(rng, events=2)
        _, calls = synthesize_with_calls(sound, rng)
        assert [sum(call.event == number for call in calls) for number in (0, 1)] == [e.count for e in sound.events]
        assert all(call.event == (call.start > SAMPLES / 2) == (call.stop > SAMPLES / 2) for call in calls)
        assert all(call.stop - call.start >= 0.179 * RATE for call in calls)
        assert all(later.start - call.stop >= 0.05 * RATE for call, later in pairwise(calls))
        assert calls[0].start >= 0
        assert calls[-1].stop <= SAMPLES


@pytest.mark.parametrize("shape", SHAPES)
def test_loud_is_louder_than_quiet_whatever_the_lot(shape):
    power = {}
    for loudness in LOUDNESS:
        drawn = []
        for seed in range(20):
            samples, [call] = synthesize_with_calls(_alone(shape, loudness=loudness), random.Random(seed))
            drawn.append(_power(samples[call.start : call.stop]))
        power[loudness] = drawn
    assert min(power["loud"]) > 5 * max(power["quiet"])


@pytest.mark.parametrize("bed", [bed for bed in BEDS if bed != "silence"])
@pytest.mark.parametrize("shape", SHAPES)
def test_beds_are_there_and_weaker_than_quiet_calls(shape, bed):
    for seed in range(10):
        samples, [call] = synthesize_with_calls(_alone(shape, loudness="quiet", bed=bed), random.Random(seed))
        behind = np.concatenate((samples[: call.start], samples[call.stop :]))
        assert 1e-6 < _power(behind) < _power(samples[call.start : call.stop]) / 8


def _middle(samples: np.ndarray) -> float:
    """Middle of the power in the spectrum, in octaves."""
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    return float(np.log2(np.fft.rfftfreq(len(samples), 1 / RATE)[np.searchsorted(power.cumsum(), power.sum() / 2)]))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_voice_rises_and_falls(shape):
    """From the first third of each call to its last, by the middle of its spectrum: half an octave is a third more."""
    moved = {}
    for motion in MOTIONS:
        ways = []
        for seed in range(20):
            samples, calls = synthesize_with_calls(_alone(shape, motion, count=2), random.Random(seed))
            for call in calls:
                one = samples[call.start : call.stop]
                third = len(one) // 3
                ways.append(_middle(one[-third:]) - _middle(one[:third]))
        moved[motion] = float(np.median(ways))
    assert moved["rising"] > 0.3
    assert moved["falling"] < -0.3
    assert abs(moved["steady"]) < 0.15


def test_the_height_of_the_pitch_tells_no_motion():
    rng = random.Random(7)
    heights = {}
    for motion in MOTIONS:
        drawn = [synthesize_with_calls(_alone("circle", motion), rng) for _ in range(80)]
        heights[motion] = np.mean([_middle(samples[call.start : call.stop]) for samples, [call] in drawn])
    assert max(heights.values()) - min(heights.values()) < 0.2  # octaves, of one that they are spread over


# --- files and the encoder ------------------------------------------------------------------------------------------


def test_a_saved_sound_is_read_as_it_was(tmp_path: Path):
    pytest.importorskip("soundfile", reason="soundfile is not installed")
    pytest.importorskip("soxr", reason="soxr is not installed")
    from epalm.media import load_audio

    rng = random.Random(8)
    for number in range(4):
        samples = synthesize(draw_sound(rng), rng)
        save_sound(samples, tmp_path / f"{number}.wav")
        assert np.array_equal(load_audio(tmp_path / f"{number}.wav", RATE), samples)


def test_the_fast_filter_bank_gives_what_the_extractor_gives():
    rng = random.Random(9)
    sounds = [synthesize(Sound(bed, draw_sound(rng).events), rng) for bed in BEDS]
    wanted = np.stack(feature_extractor()(sounds, sampling_rate=RATE)["input_values"])
    found = torch.stack([log_mels(torch.from_numpy(sound)) for sound in sounds]).numpy()
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-3  # ranges over 1.5


def test_the_encoder_takes_a_whole_sound_at_once():
    encoder = load_encoder(ASTModel(configuration()), processor=feature_extractor())
    assert (encoder.rate, encoder.window) == (RATE, SAMPLES)
    assert encoder.token_mask(encoder.preprocess([synthesize(SOUND, random.Random(0))])).shape == (1, 2 + 4 * COLUMNS)


def test_labels_tell_ranks_and_bed_from_one():
    assert labels_of(SOUND) == [5, 1, 1, 2, 7, 3, 2, 1, 4]
    assert labels_of(_alone("circle")) == [1, 3, 1, 1, 0, 0, 0, 0, 1]


@pytest.mark.parametrize("seed", range(5))
def test_a_batch_with_nothing_absent_has_a_loss(seed):
    values, labels, columns = draw_batch(random.Random(seed), 2)
    assert (values.shape, labels.shape, columns.shape) == ((2, 256, 64), (2, 9), (2, 16, 5))
    heads = AttributeHeads(8, LABEL_SIZES)
    assert torch.isfinite(heads.loss(torch.randn(2, 8), labels.clamp(min=1)))


def test_columns_are_labelled_where_calls_sound():
    rng = random.Random(10)
    for _ in range(50):
        sound = draw_sound(rng)
        _, calls = synthesize_with_calls(sound, rng)
        labels = column_labels_of(sound, calls)
        assert labels.shape == (16, 5)
        marked = {(rank, ordinal) for *_, rank, ordinal in labels.tolist() if rank}
        wanted = {(number, n) for number, event in enumerate(sound.events, 1) for n in range(1, event.count + 1)}
        assert marked <= wanted
        assert len(marked) >= len(wanted) - 2  # of two calls within a column the longer part is told
        for shape, motion, _, rank, _ in labels.tolist():
            if rank:
                event = sound.events[rank - 1]
                assert (SHAPES[shape - 1], MOTIONS[motion - 1]) == (event.shape, event.motion)
