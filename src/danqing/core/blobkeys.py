"""The one grammar of keys under which bytes are kept. Pure text: knows no folder, no bucket and no link.

    input   inputs/<16 hex of the tenant>/<64 hex: SHA-256 of the packed raster>
    upload  uploads/<16 hex of the tenant>/<32 hex, random>
    result  <2 hex>/<2 hex>/<yyyymmdd>/<32 hex, random>/<job id>-<index>.png

An input is named by its content, so the same picture sent twice is kept once, but never shared between
tenants: the tenant's part is a hash, so that no name a tenant chose reaches a path. A result lies under 128
random bits, so a key cannot be guessed from a job's id; the first four digits spread objects over folders.
"""

from __future__ import annotations

import hashlib
import re
import secrets

INPUTS = "inputs/"
UPLOADS = "uploads/"

_INPUT = re.compile(r"inputs/[0-9a-f]{16}/[0-9a-f]{64}")
_UPLOAD = re.compile(r"uploads/[0-9a-f]{16}/[0-9a-f]{32}")
_RESULT = re.compile(
    r"([0-9a-f]{2})/([0-9a-f]{2})/[0-9]{8}/(?=\1\2)[0-9a-f]{32}/[0-9A-Za-z_-]{1,64}-[0-9]{1,3}\.png"
)
_DIGEST = re.compile(r"[0-9a-f]{64}")
_DAY = re.compile(r"[0-9]{8}")
_NONCE = re.compile(r"[0-9a-f]{32}")
_JOB = re.compile(r"[0-9A-Za-z_-]{1,64}")


def input_key(tenant: str, digest: str) -> str:
    """Where the packed raster of a tenant's input lies. `digest` is `Raster.digest()`; raises ValueError
    on anything else."""
    if not _DIGEST.fullmatch(digest):
        raise ValueError("an input is named by 64 hexadecimal digits")
    return f"{INPUTS}{_owner(tenant)}/{digest}"


def upload_key(tenant: str, nonce: str) -> str:
    """Where a file lies that a tenant sent ahead. `nonce` as of `new_nonce`; raises ValueError on anything else."""
    if not _NONCE.fullmatch(nonce):
        raise ValueError("an upload is named by 32 hexadecimal digits")
    return f"{UPLOADS}{_owner(tenant)}/{nonce}"


def result_key(job_id: str, index: int, day: str, nonce: str) -> str:
    """Where picture `index` (from 0) of a job lies. `day` is yyyymmdd, `nonce` 32 random hexadecimal digits
    (`new_nonce`); raises ValueError on anything that would leave the grammar."""
    if not _JOB.fullmatch(job_id) or not 0 <= index <= 999:
        raise ValueError("not a job id and a picture's index")
    if not _DAY.fullmatch(day) or not _NONCE.fullmatch(nonce):
        raise ValueError("not a day as yyyymmdd and 32 hexadecimal digits")
    return f"{nonce[:2]}/{nonce[2:4]}/{day}/{nonce}/{job_id}-{index}.png"


def new_nonce() -> str:
    """128 random bits in hexadecimal, for `result_key` and `upload_key`."""
    return secrets.token_hex(16)


def is_input(key: str) -> bool:
    """Whether the whole of `key` is an input's key."""
    return _INPUT.fullmatch(key) is not None


def is_upload(key: str) -> bool:
    """Whether the whole of `key` is an upload's key."""
    return _UPLOAD.fullmatch(key) is not None


def is_result(key: str) -> bool:
    """Whether the whole of `key` is a result's key."""
    return _RESULT.fullmatch(key) is not None


def _owner(tenant: str) -> str:
    return hashlib.sha256(tenant.encode()).hexdigest()[:16]
