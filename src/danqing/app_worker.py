"""The wiring of a worker process, and what server and worker both make of the settings: who checks, who rewrites.

Apart from `app.py` so that a worker names nothing of the server. Decides nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from danqing.catalogue.loader import load as load_catalogue
from danqing.core.writing import Judge, Writer
from danqing.pixels.labels import KEYWORD, generated
from danqing.profiles.loader import Profile, load_profile
from danqing.profiles.weights import Weights, sources
from danqing.prompts.check import BadChecker, Checks, Wanted, open_checks
from danqing.prompts.extend import MOST_CHARS, Patience
from danqing.prompts.rewriters import BadRewriter, Rewriters, Wish
from danqing.prompts.words import BadWords
from danqing.prompts.words import load as load_words
from danqing.settings import Checks as ChecksSection
from danqing.settings import Settings
from danqing.work.aides import Aides


class Speaker(Judge, Writer, Protocol):
    """An encoder with language: it judges, and it writes."""


class StartRefused(Exception):
    """The server or a worker cannot start; the message says why, for a person."""


class SystemClock:
    """`core.ports.Clock` by the operating system."""

    def monotonic(self) -> float:
        """Seconds since boot."""
        return time.monotonic()

    def wall(self) -> float:
        """Unix seconds."""
        return time.time()


def run_worker(
    where: Path, profile_name: str, *, name: str, device: str, threads: int | None, settings: Settings
) -> None:
    """Be a worker process: load the profile's checkpoints and serve the lease socket until the server is gone. Raises
    BadProfile, and StartRefused for what is not to be mended by starting again."""
    from danqing.engine.build import open_engine
    from danqing.engine.load import BadCheckpoint
    from danqing.work.process import Opened, main, perish

    profile = load_profile(profile_name).with_presets(settings.engine.presets)

    def opened() -> Opened:
        try:
            return open_all()
        except (BadCheckpoint, BadChecker) as fault:
            raise StartRefused(str(fault)) from fault

    def open_all() -> Opened:
        megabytes = settings.engine.remember_mb
        calibration = settings.data / "calibration" / f"{profile.name}-{device}.json"
        engine = open_engine(
            profile,
            device,
            threads,
            policy=settings.engine.policy,
            calibration=calibration,
            lost=perish,
            weights=Weights(settings.weights),
            remember=None if megabytes is None else megabytes * 1_000_000,
        )
        if settings.engine.previews:
            engine.prepare_previews(settings.data / "previews")
        aides = replace(_aides(settings, profile, engine.speaker), most_inputs=engine.most_inputs)
        return Opened(engine, profile.name, tuple(profile.models), device, aides=aides, reach=engine.reach())

    main(opened, name=name, socket=where, clock=SystemClock())


def refuse_unready(settings: Settings, profile: Profile) -> None:
    """Raises StartRefused if the profile's weights are not here, or a licence of theirs is not accepted."""
    for one in sources(profile):
        if one.folder is not None and not one.folder.is_dir():
            raise StartRefused(
                f"the profile {profile.name} names the folder {one.folder}, which is not there"
            )
    missing = Weights(settings.weights).missing(profile)
    if missing:
        raise StartRefused(f"{missing[0]}; run: danqing models pull {settings.engine.profile}")
    licences = profile.unaccepted(settings.engine.accept)
    if licences:
        raise StartRefused(
            f"the profile {profile.name} wants the licence {licences[0]!r} accepted: add it to engine.accept"
        )


def _aides(settings: Settings, profile: Profile, speaker: Callable[[str], Speaker]) -> Aides:
    """What helps the worker. Raises BadChecker."""
    checks, seeing = settings.checks, judging(settings, profile)
    judge = speaker(seeing) if seeing is not None else None
    alone = replace(wanted(checks), classifier=None, plugins=())
    look_in = open_checks(alone, judge if checks.inputs else None)
    look_out = open_checks(wanted(checks), judge) if checks.outputs else Checks({})
    rewriters = _rewriters(settings, profile, speaker)

    async def close() -> None:
        await look_out.close()
        await rewriters.close()

    def label(number: str) -> str:
        labels = settings.labels
        return generated(labels.producer, number)[KEYWORD] if labels.aigc_metadata else ""

    return Aides(
        rewriters.of,
        look_in=look_in.inspect,
        look_out=look_out.inspect,
        label=label,
        shows=not look_out,
        close=close,
    )


def _rewriters(settings: Settings, profile: Profile, speaker: Callable[[str], Writer]) -> Rewriters:
    """Who rewrites prompts. Raises StartRefused."""
    models, wished = load_catalogue(), wish(settings)

    def chars(name: str) -> int:
        return models[name].prompt_chars if name in models else MOST_CHARS

    return Rewriters(wished, profile, speaker=speaker, chars=chars, refuses=refuses(settings))


def wish(settings: Settings) -> Wish:
    """Who is to rewrite, from the settings. Raises StartRefused."""
    asked = settings.rewriting
    key = asked.key.get_secret_value() if asked.key is not None else ""
    try:
        return Wish(asked.by, asked.url, asked.model, key, Patience(asked.seconds, asked.thinking_seconds))
    except BadRewriter as fault:
        raise StartRefused(str(fault)) from fault


def judging(settings: Settings, profile: Profile) -> str | None:
    """An API name behind which the judge of pictures stands; None if none is wanted. Raises StartRefused if nothing
    in the profile could be one."""
    if not settings.checks.judge:
        return None
    for name in load_catalogue():
        checkpoint = profile.checkpoint(name)
        if checkpoint is not None and checkpoint.language:
            return name
    raise StartRefused(
        f"checks.judge is on, but no checkpoint of the profile {profile.name} has an encoder with language"
    )


def wanted(checks: ChecksSection) -> Wanted:
    """Which checks, from the settings, for the server and the worker alike."""
    token = checks.classifier_token.get_secret_value() if checks.classifier_token is not None else ""
    return Wanted(
        classifier=checks.classifier,
        token=token,
        plugins=checks.plugins,
        seconds=checks.seconds,
        at_once=checks.at_once,
        questions=checks.questions,
        threshold=checks.threshold,
        judge_seconds=checks.judge_seconds,
        lenient=checks.away == "allow",
    )


def refuses(settings: Settings) -> Callable[[str], bool]:
    """Whether a text asks for something that this installation does not paint."""
    if not settings.checks.enabled:
        return lambda _: False
    try:
        return load_words(settings.checks.words).refuse
    except BadWords as fault:
        raise StartRefused(str(fault)) from fault
