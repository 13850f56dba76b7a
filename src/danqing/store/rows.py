"""Rows to nouns and back: what of a job is kept as JSON text, and how a stored row reads. Knows no statement."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import RowMapping

from danqing.core.errors import Fault, restore
from danqing.core.job import Image, Job, Lease, State
from danqing.core.keys import Account, ApiKey
from danqing.core.order import Brief
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
        },
        separators=(",", ":"),
    )


def read_brief(text: str) -> Brief:
    """The inverse of `brief_text`."""
    held = json.loads(text)
    return Brief(**{**held, "inputs": tuple(held["inputs"]), "size": Size(*held["size"])})


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
    """A fault's message without the lone surrogates and the zero character that databases refuse."""
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
    )


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
    }


def read_account(row: RowMapping) -> Account:
    """A row of `account`."""
    return Account(tenant=row["tenant"], quota=row["quota"], held=row["held"], used=row["used"])
