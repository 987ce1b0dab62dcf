"""What is missing is told once, and of whom: of the source, or of a tag that lacks more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np
from one_tank import NOON

from connectors.holes import Hole, Holes
from twin.records import Series


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def times(**given: Sequence[float]) -> Mapping[str, Series]:
    return {tag: np.array(each, float) + NOON.timestamp() for tag, each in given.items()}


def gap(*tags: str, longest_s: float = 60, **more: object) -> Holes:
    """From noon on: 30 s together, so long of each tag."""
    given = {"longest_s": dict.fromkeys(tags, longest_s), "together_s": 30, "known": {}, **more}
    return Holes(NOON, **given)  # type: ignore[arg-type]  # by keyword


def test_a_silence_of_all_is_told_once() -> None:
    """A thousand tags that lack the same, give or take a sample: one hole of the source."""
    tags = [f"t{number}" for number in range(1_000)]
    holes = gap(*tags)
    stored = {tag: [10 - k % 2, 200 + k % 3] for k, tag in enumerate(tags)}
    assert holes.up_to(times(**stored)) == [Hole(None, at(10), at(200))]
    assert holes.to_the_end(at(210)) == []


def test_a_tag_that_lacks_more_than_the_others_is_named() -> None:
    """A hole within theirs is theirs; one that goes on for longer is the tag's."""
    holes = gap("a", "b", "c")
    found = holes.up_to(times(a=[10, 100, 130, 160, 190], b=[10, 40, 190], c=[10, 100, 120, 190]))
    assert found[0] == Hole(None, at(40), at(100))
    assert sorted(found[1:], key=str) == [Hole("b", at(40), at(190)), Hole("c", at(120), at(190))]


def test_what_lasts_to_the_end_is_missing_too() -> None:
    """Of one tag, or of all."""
    holes = gap("a", "dead")
    holes.up_to(times(a=range(10, 400, 10), dead=range(10, 200, 10)))
    assert holes.to_the_end(at(390)) == [Hole("dead", at(190), at(390))]
    assert gap("a").to_the_end(at(31)) == [Hole(None, NOON, at(31))]


def test_a_tag_is_missing_from_its_own_last_reading_on() -> None:
    """Which may lie before the gap, and makes the difference for a tag that is told seldom."""
    holes = gap("often", "seldom", known={"seldom": at(-50)})
    found = holes.up_to(times(often=range(10, 100, 10), seldom=[20]))
    assert found == [Hole("seldom", at(-50), at(20))]


def test_nothing_is_missing_before_a_plant_began() -> None:
    """At a first start the first time of all begins it; a tag that begins later lacks the rest."""
    holes = gap("a", "b", is_first=True)
    assert holes.up_to(times(a=[], b=[])) == []
    assert holes.up_to(times(a=range(5_000, 5_200, 10), b=range(5_100, 5_200, 10))) == [
        Hole("b", at(5_000), at(5_100))
    ]
    assert gap("a", is_first=True).to_the_end(at(1_000)) == []
