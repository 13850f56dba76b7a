"""Structured logs on standard error, with secrets taken out on the way. Rooms call structlog and know nothing of this.

What never appears: API keys, `Authorization` values, signatures and query strings of links, `data:` URLs, and prompts
(length and hash stand in, unless the operator opts in). Control characters are escaped, so that no request can draw
on a terminal or forge a line.
"""

from __future__ import annotations

import hashlib
import logging
import re
import sys
from collections.abc import Callable, MutableMapping
from typing import Any

import structlog

SECRET_NAMES = re.compile(r"authorization|secret|password|signature|pepper|(^|_)key$|api_?key", re.IGNORECASE)
PROMPT_NAMES = frozenset({"prompt", "negative_prompt", "instruction", "text"})
PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(sk|st)-[0-9A-Za-z_-]{8,}"), r"\1-[redacted]"),
    (re.compile(r"(?i)\bbearer\s+[^\s\"',]+"), "Bearer [redacted]"),
    (re.compile(r"data:[^,\s\"']{0,128},[^\s\"']*"), "data:[redacted]"),
    (re.compile(r"(https?://[^\s\"'?#]*)\?[^\s\"']*"), r"\1?[redacted]"),
    (re.compile(r"(?i)\b(signature|ossaccesskeyid)=[^\s&\"']+"), r"\1=[redacted]"),
)
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")

Event = MutableMapping[str, Any]


def clean(text: str) -> str:
    """The text without secrets and without control characters."""
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return CONTROL.sub(lambda found: f"\\u{ord(found.group()):04x}", text)


def _scrub(value: Any, name: str = "") -> Any:
    if name and SECRET_NAMES.search(name):
        return "[redacted]"
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, bytes):
        return f"[{len(value)} bytes]"
    if isinstance(value, dict):
        return {str(key): _scrub(inner, str(key)) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_scrub(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return clean(str(value))


def redact(_logger: Any, _method: str, event: Event) -> Event:
    """The structlog processor that takes secrets out of every value, at any depth."""
    for name in list(event):
        event[name] = _scrub(event[name], name)
    return event


def hide_prompts(_logger: Any, _method: str, event: Event) -> Event:
    """Length and hash stand in for prompts."""
    for name in PROMPT_NAMES & event.keys():
        text = str(event[name])
        digest = hashlib.sha256(text.encode()).hexdigest()[:12]
        event[name] = f"[{len(text)} characters, {digest}]"
    return event


class _Bridge(logging.Handler):
    """Lines of libraries that use the standard `logging`, on the same way out."""

    def emit(self, record: logging.LogRecord) -> None:
        """Hand the record to structlog."""
        log = structlog.get_logger(record.name)
        log.log(
            record.levelno,
            record.getMessage(),
            **({"error": str(record.exc_info[1])} if record.exc_info else {}),
        )


def configure(level: str, *, form: str, prompts: bool, stream: Any = None) -> None:
    """Set logging up for this process, once, at its door. `form`: auto (text on a terminal), json or text."""
    out = sys.stderr if stream is None else stream
    least = logging.getLevelNamesMapping()[level.upper()]
    as_text = form == "text" or (form == "auto" and out.isatty())
    processors: list[Callable[..., Any]] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
        *([] if prompts else [hide_prompts]),
        redact,
        structlog.dev.ConsoleRenderer(colors=out.isatty())
        if as_text
        else structlog.processors.JSONRenderer(ensure_ascii=False, sort_keys=False),
    ]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=structlog.WriteLoggerFactory(file=out),
        cache_logger_on_first_use=False,
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(max(least, logging.WARNING))
