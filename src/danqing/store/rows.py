"""Rows to nouns and back: what of a job is kept as JSON text, and how a stored row reads. Knows no statement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from typing import Any

from sqlalchemy import RowMapping

from danqing.core.errors import Fault, restore
from danqing.core.job import Arrival, Contract, Image, Job, Lease, Quality, Said, State
from danqing.core.keys import Account, ApiKey
from danqing.core.order import Brief, Mask, Order, Remote, Taken, Uploaded
from danqing.core.raster import Size


def brief_text(brief: Brief) -> str:
    """ASCII JSON, so that no character a caller may send is one a database refuses."""
    return json.dumps(
        {
            "model": brief.model,
            "prompt": brief.prompt,
            "negative_prompt": brief.negative_prompt,
            "inputs": list(brief.inputs),
            "count": brief.count,
            "size": [brief.size.width, brief.size.height],
            "seed": brief.seed,
            "watermark": brief.watermark,
            "knobs": dict(brief.knobs),
            **({} if brief.mask is None else {"mask": [brief.mask.digest, brief.mask.of]}),
        },
        separators=(",", ":"),
    )


def read_brief(text: str) -> Brief:
    """The inverse of `brief_text`."""
    held = json.loads(text)
    mask = Mask(*held["mask"]) if "mask" in held else None
    return Brief(**{**held, "inputs": tuple(held["inputs"]), "size": Size(*held["size"]), "mask": mask})


def order_text(order: Order) -> str:
    """An order with its references as given; pictures that came with the request must have been taken before."""
    return json.dumps({member.name: _told(getattr(order, member.name)) for member in fields(order)})


def read_order(text: str) -> Order:
    """The inverse of `order_text`."""
    return Order(**{name: _read(value) for name, value in json.loads(text).items()})


def _told(value: Any) -> Any:
    """As JSON: what JSON has no form for becomes an object of one member that names its kind."""
    match value:
        case Size(width, height):
            return {"$size": [width, height]}
        case Remote(url):
            return {"$url": url}
        case Uploaded(key):
            return {"$upload": key}
        case Taken(digest, size):
            return {"$taken": [digest, size.width, size.height]}
        case Mapping():
            return {"$map": {name: _told(inner) for name, inner in value.items()}}
        case tuple() | list():
            return [_told(inner) for inner in value]
    return value


def _read(value: Any) -> Any:
    match value:
        case {"$size": [width, height]}:
            return Size(width, height)
        case {"$url": url}:
            return Remote(url)
        case {"$upload": key}:
            return Uploaded(key)
        case {"$taken": [digest, width, height]}:
            return Taken(digest, Size(width, height))
        case {"$map": dict(members)}:
            return {name: _read(inner) for name, inner in members.items()}
        case list():
            return tuple(_read(inner) for inner in value)
    return value


def lost_text(lost: Mapping[int, Fault]) -> str | None:
    """Which pictures of a success are missing, and why; None for none."""
    if not lost:
        return None
    return json.dumps({place: [type(fault).__name__, message_text(fault)] for place, fault in lost.items()})


def read_lost(text: str | None) -> dict[int, Fault]:
    """The inverse of `lost_text`."""
    told = json.loads(text or "{}")
    return {int(place): restore(name, message) for place, (name, message) in sorted(told.items())}


def said_text(said: Said) -> str | None:
    """What the worker said, as ASCII JSON; None for nothing."""
    if said == Said():
        return None
    quality = None if said.quality is None else asdict(said.quality)
    return json.dumps({"prompt": said.prompt, "texts": said.texts, "quality": quality})


def read_said(text: str | None) -> Said:
    """The inverse of `said_text`."""
    told = json.loads(text or "{}")
    texts = tuple((place, words) for place, words in told.get("texts", ()))
    made = told.get("quality")
    quality = None if made is None else Quality(**{**made, "contract": Contract(made["contract"])})
    return Said(told.get("prompt"), texts, quality)


def images_text(images: Iterable[Image]) -> str:
    """The pictures of a finished job, in order."""
    return json.dumps([[i.key, i.size.width, i.size.height, i.digest] for i in images], separators=(",", ":"))


def read_images(text: str | None) -> tuple[Image, ...]:
    """The inverse of `images_text`; none for a job without a result."""
    return tuple(
        Image(key, Size(width, height), digest) for key, width, height, digest in json.loads(text or "[]")
    )


def images_hash(images: Iterable[Image]) -> str:
    """One SHA-256 for all the pictures of a job: over their digests, in order."""
    return hashlib.sha256("\n".join(image.digest for image in images).encode()).hexdigest()


def message_text(fault: Fault) -> str:
    """A fault's message without the lone surrogates and the zero character that databases refuse; empty where it has
    none of its own, so that it reads back as one without."""
    if not fault.explicit:
        return ""
    return fault.message.encode("utf-8", "replace").decode().replace("\0", "")


def read_job(row: RowMapping) -> Job:
    """A row of `job` as callers see it."""
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        api=row["api"],
        brief=read_brief(row["brief"]),
        state=State(row["state"]),
        attempt=row["attempt"],
        created=row["created"],
        started=row["started"],
        finished=row["finished"],
        expires=row["expires"],
        step=row["step"],
        steps=row["step_total"],
        images=read_images(row["result"]),
        fault=restore(row["error_code"], row["error_msg"]) if row["error_code"] else None,
        idempotency_key=row["idem_key"],
        request_id=row["request_id"],
        key_id=row["key_id"],
        lost=read_lost(row["lost"]),
        said=read_said(row["said"]),
        priority=row["priority"],
    )


def read_arrival(row: RowMapping) -> Arrival:
    """A row of an accepted job."""
    try:
        order = read_order(row["body_ref"])
    except (TypeError, ValueError, AttributeError):
        order = None
    return Arrival(row["id"], row["tenant"], order)


def read_lease(row: RowMapping, token: str, attempt: int) -> Lease:
    """A row about to be claimed as its worker sees it."""
    return Lease(
        token=token,
        job_id=row["id"],
        tenant=row["tenant"],
        brief=read_brief(row["brief"]),
        attempt=attempt,
        cost=row["cost"],
        run_seconds=row["run_seconds"],
        priority=row["priority"],
    )


def read_key(row: RowMapping) -> ApiKey:
    """A row of `api_key`."""
    return ApiKey(
        key_id=row["key_id"],
        tenant=row["tenant"],
        name=row["name"],
        mac=bytes(row["mac"]),
        created=row["created"],
        expires=row["expires"],
        revoked=row["revoked"],
        scopes=tuple(json.loads(row["scopes"])),
        region=row["region"],
        workspace=row["workspace"],
        priority=row["priority"],
    )


def key_values(key: ApiKey) -> dict[str, Any]:
    """The inverse of `read_key`."""
    return {
        "key_id": key.key_id,
        "tenant": key.tenant,
        "name": key.name,
        "mac": key.mac,
        "scopes": json.dumps(list(key.scopes)),
        "created": key.created,
        "expires": key.expires,
        "revoked": key.revoked,
        "region": key.region,
        "workspace": key.workspace,
        "priority": key.priority,
    }


def read_account(row: RowMapping) -> Account:
    """A row of `account`."""
    return Account(tenant=row["tenant"], quota=row["quota"], held=row["held"], used=row["used"])
