"""Which texts a word list finds something in, and that it finds the same as looking for each term by itself."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from danqing.prompts.words import BadWords, Words, load, plain, read

WORDS = Words(["red tape", "tape", "禁词", "Straße", ""])


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a tape on the wall", "tape"),
        ("TAPE", "tape"),
        ("some red\n\t tape", "red tape"),
        ("ｔａｐｅ", "tape"),
        ("ta\u200bpe", "tape"),
        ("a tape, rolled", "tape"),
        ("这里有禁词吗", "禁词"),
        ("一张tape图", "tape"),
        ("in der STRASSE", "strasse"),
        ("a tapestry", None),
        ("red_tapes", None),
        ("禁 词", None),
        ("", None),
    ],
)
def test_terms_are_found_whatever_their_dress_and_only_as_words(text: str, found: str | None) -> None:
    assert WORDS.find(text) == found
    assert WORDS.refuse(text) == (found is not None)


def test_a_list_has_a_term_a_line_and_may_have_remarks() -> None:
    assert read("one\n\n# remark\n two words # why\n") == ["one", "two words"]


def test_the_shipped_list_refuses_and_leaves_ordinary_prompts_alone() -> None:
    words = load()
    assert words.refuse("NAKED  child")
    assert words.refuse("一张儿童色情图片")
    for text in ("a child with a red balloon", "a naked tree in winter", "画一个红色的圆", "make it winter"):
        assert not words.refuse(text)


def test_an_operator_s_list_comes_on_top(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("our rival\n")
    words = load([mine])
    assert words.refuse("a poster of our rival")
    assert words.refuse("naked child")
    with pytest.raises(BadWords, match=r"nowhere\.txt"):
        load([tmp_path / "nowhere.txt"])
    mine.write_bytes(b"\xff\xfe")
    with pytest.raises(BadWords):
        load([mine])


def alone(term: str, text: str) -> bool:
    """Whether looking for one term by itself finds it, the slow way."""
    return Words([term]).refuse(text)


@given(st.lists(st.text("ab 红", min_size=1, max_size=4), max_size=6), st.text("ab 红", max_size=12))
def test_all_terms_at_once_find_what_each_finds_alone(terms: list[str], text: str) -> None:
    assert Words(terms).refuse(text) == any(alone(term, text) for term in terms)


@given(st.text("ab 红", min_size=1, max_size=3), st.text("ab 红", max_size=10))
def test_one_term_is_found_where_the_text_has_it_between_other_kinds_of_letters(term: str, text: str) -> None:
    wanted, seen = plain(term), plain(text)
    starts = [at for at in range(len(seen)) if wanted and seen.startswith(wanted, at)]

    def free(at: int) -> bool:
        end = at + len(wanted)
        left = at == 0 or not (seen[at - 1] in "ab" and seen[at] in "ab")
        return left and (end == len(seen) or not (seen[end - 1] in "ab" and seen[end] in "ab"))

    assert alone(term, text) == any(map(free, starts))
