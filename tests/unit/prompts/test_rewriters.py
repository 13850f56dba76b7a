"""Which rewriter stands behind a model: the profile's word, and the operator's over it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from danqing.core.writing import CannotWrite
from danqing.profiles.loader import Profile, Rewriting, load_profile
from danqing.prompts.rewriters import BadRewriter, Rewriters, Wish
from danqing.prompts.words import Words
from tests.unit.prompts.test_chat import completion, endpoint, saying
from tests.unit.prompts.test_extend import Told


def profile(rewriter: Rewriting = Rewriting.GRAMMAR, *, language: bool = False) -> Profile:
    found = load_profile("miniature")
    checkpoint = replace(found.checkpoints["miniature"], rewriter=rewriter, language=language)
    return replace(found, checkpoints={"miniature": checkpoint})


def rewriters(wish: Wish, using: Profile, *answers: str, chars: int = 800) -> Rewriters:
    return Rewriters(
        wish,
        using,
        speaker=lambda _: Told(list(answers)),
        chars=lambda _: chars,
        refuses=Words(["fruit"]).refuse,
    )


async def test_the_miniature_has_the_table_of_its_world() -> None:
    made = rewriters(Wish(), load_profile("miniature")).of("qwen-image-plus")
    assert made is not None
    assert (
        await made.extend("draw a ruby ball on the left", ())
        == "A red circle on the left. The background is plain white."
    )


async def test_another_checkpoint_has_its_own_encoder() -> None:
    made = rewriters(
        Wish(), profile(Rewriting.ENCODER, language=True), "A red cat. It sleeps on a mat.", chars=12
    )
    writing = made.of("any")
    assert writing is not None
    assert await writing.extend("a cat", ()) == "A red cat."


async def test_an_encoder_that_cannot_speak_is_none() -> None:
    assert rewriters(Wish(), profile(Rewriting.ENCODER, language=False)).of("any") is None
    assert rewriters(Wish(), profile(Rewriting.OFF, language=True)).of("any") is None


async def test_off_is_off() -> None:
    assert rewriters(Wish("off"), load_profile("miniature")).of("qwen-image-plus") is None


async def test_a_chat_endpoint_stands_over_the_profile_and_its_texts_are_looked_through() -> None:
    async with endpoint(saying(completion("A bowl of fruit."))) as url:
        made = rewriters(Wish("chat", url, "qwen3-vl"), load_profile("miniature"))
        writing = made.of("any")
        assert writing is not None
        with pytest.raises(CannotWrite, match="not painted"):
            await writing.extend("a bowl", ())
        await made.close()


@pytest.mark.parametrize("wish", [{}, {"url": "http://here/v1"}, {"model": "x"}])
def test_a_chat_without_an_address_or_a_model_stops_the_start(wish: dict[str, str]) -> None:
    with pytest.raises(BadRewriter, match=r"rewriting\.url and rewriting\.model"):
        Wish("chat", **wish)


def test_what_takes_time_is_made_before_it_is_asked_for() -> None:
    made = rewriters(Wish(), load_profile("miniature"))
    before = made._grammar
    assert before is not None
    made.of("any")
    assert made._grammar is before
