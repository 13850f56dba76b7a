"""Which rewriter an installation has for each model: chosen by the profile, or by the operator over it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from danqing.core.writing import Rewriter, Writer
from danqing.outbound.post import Poster
from danqing.profiles.loader import Profile, Rewriting
from danqing.prompts.chat import ChatWriter, chat_poster
from danqing.prompts.extend import MOST_CHARS, Extender, Patience, Screened
from danqing.prompts.grammar import Grammar


class BadRewriter(ValueError):
    """A rewriter that is asked for and cannot be; a start must stop on it."""


@dataclass(frozen=True, slots=True)
class Wish:
    """What the operator wants: "profile", "chat" (with an address, the name of a model there, and a key) or "off"; and
    how long it may take, in seconds. Raises BadRewriter for a chat without an address or a model."""

    by: str = "profile"
    url: str | None = None
    model: str = ""
    key: str = field(default="", repr=False)
    patience: Patience = field(default_factory=Patience)

    def __post_init__(self) -> None:
        if self.by == "chat" and not (self.url and self.model):
            raise BadRewriter("rewriting by chat needs rewriting.url and rewriting.model")


class Rewriters:
    """One rewriter a model."""

    def __init__(
        self,
        wish: Wish,
        profile: Profile,
        *,
        speaker: Callable[[str], Writer],
        chars: Callable[[str], int],
        refuses: Callable[[str], bool],
    ) -> None:
        """`speaker` answers the encoder behind a model, `chars` how many characters of a prompt the model takes,
        `refuses` is asked of every text."""
        self._wish, self._profile = wish, profile
        self._speaker, self._chars, self._refuses = speaker, chars, refuses
        self._poster: Poster | None = None
        if wish.by == "chat":
            self._poster = chat_poster(wish.url or "", wish.key, seconds=wish.patience.thinking)
        tables = any(one.rewriter is Rewriting.GRAMMAR for one in profile.checkpoints.values())
        self._grammar = Grammar() if tables and wish.by == "profile" else None

    def of(self, model: str) -> Rewriter | None:
        """The rewriter for an API name; None where there is none."""
        made = self._made(model)
        return None if made is None else Screened(made, self._refuses)

    async def close(self) -> None:
        """Hang up."""
        if self._poster is not None:
            await self._poster.close()

    def _made(self, model: str) -> Rewriter | None:
        most = min(MOST_CHARS, self._chars(model))
        if self._poster is not None:
            writer = ChatWriter(self._poster.post, self._wish.model)
            return Extender(writer, self._wish.patience, most=most)
        checkpoint = self._profile.checkpoint(model)
        if self._wish.by == "off" or checkpoint is None:
            return None
        if checkpoint.rewriter is Rewriting.GRAMMAR:
            return self._grammar
        if checkpoint.rewriter is Rewriting.ENCODER and checkpoint.language:
            return Extender(self._speaker(model), self._wish.patience, most=most)
        return None
