"""Every value reads to a form that can be written and read again on both sides, or says in words why it cannot be read."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared import wire
from shared.codecs import CODECS, LONG_TEXT_LENGTH, NAME_LENGTH, Codec, Unreadable, choice, clip, mark_of, parse_instant, strip_marks

MARKS = ["✓ ", "✔ ", "✗ ", "✘", "✕ ", "✖", "❌ ", "✓\ufe0f ", " ✓✗ "]

RIGHT_TO_LEFT = "\u05e2\u05e1\u05e7\u05d4 \u0635\u0641\u0642\u0629"  # Hebrew and Arabic
FAMILY = "👩\u200d👩\u200d👧"

# The others are read from more than one key, by the mapping: see test_mapping.py.
PLAIN = ("currency", "date", "link", "long_text", "money", "one_way_flag", "text", "title")

anything = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.decimals(allow_nan=True, allow_infinity=True),
    st.text(),
    st.builds("{}{}".format, st.sampled_from(MARKS), st.text()),
    st.text(st.characters(categories=["Cs", "Lu", "So", "Zs", "Cc"])),
    st.from_regex(r"20\d\d-[01]\d-[0-3]\d(T[0-2]\d:\d\d:\d\d(\.\d{0,9})?(Z|[+-][01]\d:?\d\d)?)?", fullmatch=True),
    st.datetimes().map(str),
    st.sampled_from(["usd", " EUR ", "12.345", "-0.00", "1e3", "true", "FALSE"]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(), st.integers(), max_size=2),
)


def units(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


@pytest.mark.parametrize("name", PLAIN)
@given(raw=anything)
def test_what_is_read_survives_being_written_to_either_side(name: str, raw: Any) -> None:
    codec = CODECS[name]
    for read in (codec.read_referral, codec.read_opportunity):
        try:
            value = read(raw)
        except Unreadable:
            continue
        over_there = wire.loads(wire.dumps(codec.write_referral(value)))
        over_here = wire.loads(wire.dumps(codec.write_opportunity(value)))
        assert codec.read_referral(over_there) == value
        assert codec.read_opportunity(over_here) == value


# codec, what a vendor sends, the one value all of it means
FORGIVEN: list[tuple[str, list[Any], Any]] = [
    ("text", [" Contoso ", "Contoso\n"], "Contoso"),
    ("text", [None, "", "   "], None),
    ("text", [RIGHT_TO_LEFT], RIGHT_TO_LEFT),
    ("long_text", ["one\r\ntwo", "one\rtwo", "one\ntwo\n", "\r\none\r\ntwo "], "one\ntwo"),
    ("long_text", [None, "", "\r\n"], None),
    ("title", [f"{mark}Deal  one" for mark in MARKS] + ["Deal\tone", " Deal one "], "Deal one"),
    ("title", [None, "", "✓", "❌ "], None),
    ("title", ["Deal ✓ one"], "Deal ✓ one"),
    ("title", [f"✓ {FAMILY} {RIGHT_TO_LEFT}"], f"{FAMILY} {RIGHT_TO_LEFT}"),
    ("money", [10000, 10000.0, "10000", "10000.00", " 1E+4 ", Decimal("10000.000")], "10000"),
    ("money", [0, -0.0, "-0.00", Decimal("0E+3")], "0"),
    ("money", [10.125, "10.1249999", Decimal("10.12")], "10.12"),
    ("money", ["9999999999999999.99"], "9999999999999999.99"),
    ("money", [None, ""], None),
    ("currency", ["USD", " usd "], "USD"),
    ("date", ["2026-11-14", "2026-11-14T00:00:00Z", "2026-11-14T00:00:00.0000000Z", "2026-11-14T23:59:59.9999999+00:00"], "2026-11-14"),
    (
        "date",
        ["2026-11-14T00:00:00", "2026-11-14T00:00:00.000+0000", "2026-11-14T01:00:00+01:00", "2026-11-13T23:30:00-0100"],
        "2026-11-14",
    ),
    ("one_way_flag", [True, "true", " True "], True),
    ("one_way_flag", [None, False, "false", ""], False),
]


@pytest.mark.parametrize(("name", "raws", "meant"), FORGIVEN)
def test_reading_forgives_what_vendors_do_to_values(name: str, raws: list[Any], meant: Any) -> None:
    codec = CODECS[name]
    assert {str(raw): codec.read_referral(raw) for raw in raws} == {str(raw): meant for raw in raws}
    assert {str(raw): codec.read_opportunity(raw) for raw in raws} == {str(raw): meant for raw in raws}


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        *[("money", raw) for raw in ("a lot", True, [], {}, "NaN", "Infinity", Decimal("sNaN"), "1,000")],
        *[("money", raw) for raw in (Decimal("1E+900"), 10**16)],
        *[("currency", raw) for raw in ("dollars", "US", 840, [], "€")],
        *[("date", raw) for raw in ("soon", "2026-02-30", "2026-11-14T25:00:00Z", {"T": 1}, 0)],
        ("date", "9999-12-31T23:59:59-05:00"),
        *[("text", raw) for raw in ({}, [], ["Contoso"])],
        *[("long_text", raw) for raw in ({}, ["notes"])],
        *[("title", raw) for raw in ({}, ["name"])],
    ],
)
def test_an_unreadable_value_is_answered_in_words(name: str, raw: Any) -> None:
    codec = CODECS[name]
    for read in (codec.read_referral, codec.read_opportunity):
        with pytest.raises(Unreadable, match=r"not a|expected"):
            read(raw)


@given(st.dictionaries(st.from_regex(r"[A-Z][a-z]{0,5}", fullmatch=True), st.from_regex(r"[A-Z][a-z]{0,5}", fullmatch=True), min_size=1))
def test_a_value_map_keeps_the_law_and_says_what_it_does_not_know(values: dict[str, str]) -> None:
    codec = choice(values)
    for here, there in values.items():
        assert codec.read_opportunity(here) == codec.read_referral(there) == there
        assert codec.read_opportunity(codec.write_opportunity(there)) == there
        assert codec.read_referral(codec.write_referral(there)) == there
    assert codec.read_referral(None) is codec.write_opportunity(None) is None
    for read in (codec.read_referral, codec.read_opportunity):
        with pytest.raises(Unreadable, match="not mapped: 'nobody'"):
            read("nobody")


def test_writing_is_exact() -> None:
    """The forms each vendor documents: numbers as numbers, days as midnight UTC there and as days here, emptied notes as "" there."""

    def both(codec: Codec, value: Any) -> tuple[Any, Any]:
        return codec.write_referral(value), codec.write_opportunity(value)

    assert both(CODECS["money"], "50000") == (50000, 50000)
    assert both(CODECS["money"], "0.1") == (Decimal("0.1"), Decimal("0.1"))
    assert both(CODECS["date"], "2026-11-14") == ("2026-11-14T00:00:00Z", "2026-11-14")
    assert both(CODECS["long_text"], None) == ("", None)


def test_notes_of_the_greatest_length_survive_and_longer_ones_are_cut_once() -> None:
    read = CODECS["long_text"].read_referral
    for sign in ("a", "é", "漢", "😀"):
        full = sign * (LONG_TEXT_LENGTH // units(sign))
        assert read(full) == full
        assert read(full + sign) == full, "the longer one is cut to what Salesforce holds"


def test_a_name_is_cut_to_what_salesforce_holds() -> None:
    for sign in ("d", "漢", "😀"):
        title = CODECS["title"].read_opportunity("✓ " + sign * 300)
        assert units(title) == NAME_LENGTH


@given(st.text(), st.integers(0, 60))
def test_clip_never_cuts_through_a_character(text: str, length: int) -> None:
    clipped = clip(text, length)
    assert units(clipped) <= length
    assert text.startswith(clipped)
    assert clip(clipped, length) == clipped
    if units(text) <= length:
        assert clipped == text


def test_half_a_character_from_a_vendor_does_not_break_the_reading() -> None:
    """JSON may hold half of a surrogate pair as an escape, and vendors that cut by UTF-16 units send it."""
    for name in ("text", "long_text", "title"):
        codec = CODECS[name]
        value = codec.read_referral("deal " * 8_000 + "\ud83d")
        assert codec.read_opportunity(codec.write_opportunity(value)) == value
        value.encode()  # can be stored


@given(st.lists(st.sampled_from(MARKS)), st.from_regex(r"[A-Z][a-z ✓]{0,20}", fullmatch=True))
def test_marks_are_stripped_and_the_rest_of_the_name_is_kept(marks: list[str], name: str) -> None:
    assert strip_marks("".join(marks) + name) == name


@pytest.mark.parametrize(
    ("name", "mark"), [("✓ Deal", "✓"), ("✔ Deal", "✓"), ("❌Deal", "✗"), ("✘ Deal", "✗"), ("✗✓ Deal", "✗"), ("Deal ✓", ""), (None, "")]
)
def test_the_mark_before_a_name_is_recognised_in_all_its_forms(name: str | None, mark: str) -> None:
    assert mark_of(name) == mark


@given(st.datetimes(), st.integers(0, 9), st.sampled_from(["Z", "z", "+0000", "+00:00", ""]))
def test_a_time_stamp_is_read_with_any_fraction_and_any_spelling_of_utc(moment: Any, digits: int, zone: str) -> None:
    fraction = f"{moment.microsecond:06d}000"[:digits]
    text = f"{moment:%Y-%m-%dT%H:%M:%S}".rjust(19, "0") + (f".{fraction}" if fraction else "") + zone
    read = parse_instant(text)
    assert read.replace(microsecond=0, tzinfo=None) == moment.replace(microsecond=0)
    assert read.microsecond == int(fraction.ljust(6, "0")[:6] or 0)


def test_a_time_stamp_that_is_none_is_refused() -> None:
    for text in ("", "now", "2026-11-14", "2026-11-14 10:00:00", "2026-13-14T10:00:00Z"):
        with pytest.raises(ValueError, match=re.compile("not a time|month")):
            parse_instant(text)
