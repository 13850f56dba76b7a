"""Every knob of the service, in one frozen object read at the door. The only file that reads the environment.

Order, the last wins: the defaults below, the TOML file (`danqing.toml` in the data folder, or the file that
`DANQING_CONFIG` names), the environment (`DANQING_SERVER_PORT`, `DANQING_LIMITS_SYNC_SECONDS`), the flags.
Unknown names are refused. Rooms never see this object: `app.py` hands each the few values it declares.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

PREFIX = "DANQING_"
CONFIG = PREFIX + "CONFIG"
SERVER_NOTE = "server.json"
"""In the data folder of a running server: its URL and process id, for commands on this machine."""
FOR_COMMANDS = PREFIX + "CLI_SERVER"
"""Read by `danqing edit` and `generate`, not a setting of the server."""
SHORT = {"HOST": ("server", "host"), "PORT": ("server", "port"), "PROFILE": ("engine", "profile")}
"""Environment names that everybody expects, and the field each stands for."""


def key_of_environment() -> str | None:
    """The key that programs for the hosted service look for."""
    return os.environ.get("DASHSCOPE_API_KEY")


def default_data() -> Path:
    """The per-user data folder of this platform."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "danqing"
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "danqing"


class Elsewhere(NamedTuple):
    """What the environment says of the hubs of weights, under the names that their own tools read."""

    hub: str
    modelscope: str
    token: str
    offline: bool


def elsewhere() -> Elsewhere:
    """Read it. The token is that of `HF_TOKEN` alone: none is looked for in anybody's files."""
    domain = os.environ.get("MODELSCOPE_DOMAIN") or "www.modelscope.cn"
    return Elsewhere(
        (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/"),
        (domain if "://" in domain else f"https://{domain}").rstrip("/"),
        os.environ.get("HF_TOKEN", "").strip(),
        os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"},
    )


def visible_gpus() -> tuple[str, ...] | None:
    """The GPUs that `CUDA_VISIBLE_DEVICES` leaves to this process; None where it says nothing."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    return None if told is None else tuple(name.strip() for name in told.split(",") if name.strip())


class BadSettings(Exception):
    """A setting is unknown or has a bad value; the message names it."""


class Section(BaseModel):
    """A frozen group of settings that refuses unknown names."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Server(Section):
    """Where and how the HTTP server listens."""

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8000, ge=0, le=65535, description="port to listen on; 0 takes a free one")
    public_url: str | None = Field(
        None,
        pattern=r"^https?://[^\s/]+(/[^\s]*)?$",
        description="scheme, host and path prefix that result links begin with; "
        "default: scheme and host of the request that asked",
    )
    region: str = Field(
        "cn-beijing",
        pattern=r"^[0-9A-Za-z][0-9A-Za-z_-]{0,63}$",
        description="the region that this server stands for: keys of another one are refused",
    )
    link_seconds: int = Field(86_400, ge=1, description="life of a result link")
    stop_seconds: float = Field(5.0, ge=0, description="how long a stopping server lets waiting calls finish")


class Limits(Section):
    """What one caller may take."""

    sync_seconds: float = Field(300.0, gt=0, description="longest synchronous call before 500 RequestTimeOut")
    queue: int = Field(500, ge=1, description="open jobs over all tenants before 429")
    tenant_queue: int = Field(200, ge=1, description="open jobs of one tenant before 429")
    body_seconds: float = Field(60.0, gt=0, description="longest time a request body may take")
    run_seconds: float = Field(600.0, gt=0, description="longest run of one attempt")
    queue_seconds: float = Field(3600.0, gt=0, description="longest wait in the queue")
    rates: bool = Field(False, description="enforce the catalogue's submit rates per key and model")
    counts: dict[str, int] = Field(
        {},
        description="how many pictures a model makes where a call does not say, by its name: the service's pages have "
        '4 for `wan2.7-image` since autumn 2026 and had 1 before, `{"wan2.7-image" = 1}`',
    )
    polls: int = Field(
        20, ge=0, description="task queries, lists and cancels of one tenant a second, each; 0 for any number"
    )


class Engine(Section):
    """What makes the pictures."""

    profile: str = Field("miniature", description="bundled profile, or the path of a profile's TOML file")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda|mps)$", description="auto, cpu, cuda or mps")
    gpus: int = Field(0, ge=0, description="how many GPUs get a worker each; 0 for all that are visible")
    threads: int = Field(0, ge=0, description="threads of torch on the CPU; 0 leaves it to torch")
    presets: dict[str, tuple[str, ...]] = Field(
        {},
        description="other presets of the profile behind API names, `*` for all that take them: "
        '`{"qwen-image-edit-plus" = ["edit-4"]}`',
    )
    accept: tuple[str, ...] = Field(
        (),
        description="licences that you accept, in the words of `danqing models`, where a profile asks for that",
    )
    policy: str = Field(
        "promise",
        pattern=r"^(promise|arrival|turn|rest)$",
        description="who is served next: promise (earliest promise that can be kept, fair between accounts), arrival, "
        "turn (round robin) or rest (shortest remaining time); danqing simulate compares them",
    )
    remember_mb: int | None = Field(
        None,
        ge=0,
        description="MB of the device's memory in which a checkpoint may keep what it made of inputs and prompts, for "
        "later jobs of the same account; beside a card, four times that of main memory. 0 keeps nothing; default: a "
        "twentieth of what is free, on a CPU no more than 268",
    )
    previews: bool = Field(
        True,
        description="show pictures while they grow to whoever listens; never where finished ones are looked at before "
        "they leave (`checks.outputs`)",
    )


class Inputs(Section):
    """How input pictures are fetched and decoded."""

    decoders: int = Field(2, ge=1, le=64, description="decoder processes")
    allow: tuple[str, ...] = Field(
        (),
        description="`host:port` of private hosts that inputs may be fetched from; empty for none",
    )


class Checks(Section):
    """What is not painted for anybody: by words in prompts, and by looking at pictures (docs/howto/checks.md)."""

    enabled: bool = Field(True, description="look for refused words in prompts and negative prompts")
    words: tuple[Path, ...] = Field(
        (), description="files of more refused words, one a line; empty for the shipped list alone"
    )
    classifier: str | None = Field(
        None, pattern=r"^https?://\S+$", description="URL of your own classifier of pictures"
    )
    classifier_token: SecretStr | None = Field(
        None, description="sent to the classifier as `Authorization: Bearer …`"
    )
    plugins: tuple[str, ...] = Field(
        (), description="checkers of pictures to load, by entry point of the group `danqing.checkers`"
    )
    judge: bool = Field(
        False, description="ask the checkpoint's own encoder about pictures, where it has language"
    )
    questions: tuple[str, ...] = Field(
        (
            "Does this picture show naked people or a sexual act?",
            "Does this picture show torture, mutilation or a corpse?",
        ),
        min_length=1,
        description="what the encoder is asked, one after the other; a yes refuses",
    )
    threshold: float = Field(0.5, ge=0, le=1, description="how likely a yes must be, at least, to refuse")
    inputs: bool = Field(True, description="look at input pictures, if there is a checker")
    outputs: bool = Field(True, description="look at finished pictures, if there is a checker")
    seconds: float = Field(5.0, gt=0, description="longest wait for a classifier or plug-in, a picture")
    judge_seconds: float = Field(30.0, gt=0, description="longest wait for the encoder, a question")
    at_once: int = Field(4, ge=1, le=64, description="pictures that a classifier or plug-in has at a time")
    away: Literal["refuse", "allow"] = Field(
        "refuse", description="what becomes of a picture that a checker gave no answer about"
    )


class Rewriting(Section):
    """Who makes fuller prompts out of short ones (docs/howto/prompts.md)."""

    by: Literal["profile", "chat", "off"] = Field(
        "profile",
        description="profile: what the profile names for each checkpoint; chat: the endpoint below; off",
    )
    url: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="base URL of an endpoint with OpenAI's chat completions, as a rule ending in `/v1`",
    )
    model: str = Field(
        "", description="the model to ask for there; one that sees, if edits are to be rewritten well"
    )
    key: SecretStr | None = Field(None, description="sent to the endpoint as `Authorization: Bearer …`")
    seconds: float = Field(10.0, gt=0, description="longest wait; after it the prompt is used as given")
    thinking_seconds: float = Field(
        30.0, gt=0, description="the same where the caller allows time to think, and for series and stories"
    )


class Labels(Section):
    """How pictures say that they were generated."""

    aigc_metadata: bool = Field(True, description="the implicit label of GB 45438 in every file's metadata")
    producer: str = Field(
        "danqing",
        pattern=r"^[!#-;=?-\[\]-~]+$",
        description="who made the pictures, as the label says it: printable ASCII without spaces and quotes",
    )


class Uploads(Section):
    """Files that callers send ahead of their orders; they are kept for 48 hours."""

    file_mb: int = Field(1024, ge=1, le=102_400, description="MiB of one file")
    account_mb: int = Field(10_240, ge=1, description="MiB of all files of one tenant")


class Log(Section):
    """What is written to standard error."""

    level: Literal["debug", "info", "warning", "error"] = Field("info", description="least level written")
    format: Literal["auto", "json", "text"] = Field(
        "auto", description="auto: text on a terminal, else JSON lines"
    )
    prompts: bool = Field(False, description="write prompts in full instead of their length and hash")


class Settings(BaseSettings):
    """The whole configuration. `load` reads it; nothing else constructs it outside tests."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_nested_delimiter="_", env_nested_max_split=1, frozen=True, extra="forbid"
    )

    data: Path = Field(
        default_factory=default_data, description="folder of the database, the pictures and secrets"
    )
    server: Server = Server()
    limits: Limits = Limits()
    engine: Engine = Engine()
    inputs: Inputs = Inputs()
    uploads: Uploads = Uploads()
    checks: Checks = Checks()
    rewriting: Rewriting = Rewriting()
    labels: Labels = Labels()
    log: Log = Log()

    @property
    def weights(self) -> Path:
        """The folder of weights that were pulled."""
        return self.data / "weights"


def fields() -> list[tuple[str, str, Any]]:
    """Every setting as (dotted name, description, default), for the reference page and for unknown names."""
    rows: list[tuple[str, str, Any]] = []
    for name, field in Settings.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, Section):
            rows += [(f"{name}.{n}", f.description or "", f.default) for n, f in kind.model_fields.items()]
        else:
            rows.append((name, field.description or "", "per user" if name == "data" else field.default))
    return rows


def variable(name: str) -> str:
    """The environment's name of a setting."""
    return PREFIX + name.replace(".", "_").upper()


def _refuse_unknown() -> None:
    known = {variable(name) for name, _, _ in fields()}
    known |= {PREFIX + short for short in SHORT} | {CONFIG, FOR_COMMANDS}
    for name in os.environ:
        if name.startswith(PREFIX) and name not in known:
            raise BadSettings(_unknown(name))


def _unknown(name: str) -> str:
    return f"unknown setting {name}; the known ones are in docs/reference/settings.md"


def _no_json() -> str | None:
    """Which list or table of the environment is not JSON, in words."""
    for name, _, default in fields():
        given = os.environ.get(variable(name))
        if isinstance(default, tuple | dict) and given is not None:
            try:
                json.loads(given)
            except ValueError:
                return f"setting {name}: {variable(name)} is not JSON (got {given!r})"
    return None


def _file(data: Path) -> Path | None:
    named = os.environ.get(CONFIG)
    path = Path(named) if named else data / "danqing.toml"
    if named and not path.is_file():
        raise BadSettings(f"{CONFIG} names {path}, which is not a file")
    return path if path.is_file() else None


def _given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The command line over the short names of the environment, without what was left out."""
    values: dict[str, Any] = {}
    for short, (section, name) in SHORT.items():
        if PREFIX + short in os.environ:
            values.setdefault(section, {})[name] = os.environ[PREFIX + short]
    for name, value in flags.items():
        if isinstance(value, Mapping):
            values.setdefault(name, {}).update({k: v for k, v in value.items() if v is not None})
        elif value is not None:
            values[name] = value
    return values


def load(**flags: Any) -> Settings:
    """Read the configuration. `flags` are command-line values, a dict by section (`server={"port": 9000}`);
    None stands for a flag that was not given. Raises BadSettings, which names the setting."""
    _refuse_unknown()
    given = _given(flags)
    data = Path(given.get("data") or os.environ.get(PREFIX + "DATA") or default_data())
    file = _file(data)

    class Sourced(Settings):
        """The settings with this call's file among the sources; the first source wins."""

        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 (the library passes it by name)
            file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, env_settings, TomlConfigSettingsSource(settings_cls, toml_file=file)

    try:
        return Sourced(**{"data": data, **given})
    except ValidationError as fault:
        first = fault.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            raise BadSettings(_unknown(name)) from fault
        raise BadSettings(f"setting {name}: {first['msg']} (got {first['input']!r})") from fault
    except SettingsError as fault:
        raise BadSettings(_no_json() or f"{file or 'environment'}: {fault}") from fault
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as fault:
        raise BadSettings(f"{file or 'environment'}: {fault}") from fault
