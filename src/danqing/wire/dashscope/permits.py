"""Permits to send files: what a caller is handed, and what a form that came with it allows. Pure; the seal is given.

A permit is a policy as the hosted service's object store reads them: Base64 of JSON with an `expiration` and
conditions. Ours has one member more, `for`: the account and the model that the files are for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from danqing.core.ports import Seal
from danqing.core.uploads import Allowance, Grant, UploadRefused, Why

ACL, FORBID = "private", "true"
BUCKET = "dashscope-file-mgr"
ROOT = "dashscope-instant"
FIELDS = ("OSSAccessKeyId", "Signature", "policy", "key")
"""What a form must have before its file."""

_FIXED = {"x-oss-object-acl": ACL, "x-oss-forbid-overwrite": FORBID}
"""What these may say and nothing else, where a form has them."""

LONGEST_KEY = 1023
MIB = 1024 * 1024
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_MOMENT = "%Y-%m-%dT%H:%M:%S.%fZ"


class FieldMissing(Exception):
    """A form has no such field."""


def folder(grant: Grant, name: str, now: float) -> str:
    """Where a permit's files lie: by account and model, which their names do not tell, by day, and by `name`."""
    owner = hashlib.sha256(json.dumps([grant.tenant, grant.model]).encode()).hexdigest()[:32]
    day = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
    return f"{ROOT}/{owner}/{day}/{name}"


def policy(grant: Grant, where: str) -> str:
    """The policy of a grant for one folder, as it is signed and sent."""
    document = {
        "expiration": datetime.fromtimestamp(grant.ends, UTC).strftime(_MOMENT),
        "conditions": [
            ["content-length-range", 0, grant.most],
            ["starts-with", "$key", where],
            {"bucket": BUCKET},
            *({name: said} for name, said in _FIXED.items()),
        ],
        "for": [grant.tenant, grant.model],
    }
    return base64.b64encode(json.dumps(document).encode()).decode()


def told(grant: Grant, where: str, host: str, seconds: int, sign: Callable[[str], Seal]) -> dict[str, Any]:
    """The permit as its caller gets it."""
    text = policy(grant, where)
    seal = sign(text)
    return {
        "policy": text,
        "signature": base64.b64encode(seal.code).decode(),
        "upload_dir": where,
        "upload_host": host,
        "expire_in_seconds": seconds,
        "max_file_size_mb": grant.most // MIB,
        "capacity_limit_mb": grant.capacity // MIB,
        "oss_access_key_id": seal.key_id,
        "x_oss_object_acl": ACL,
        "x_oss_forbid_overwrite": FORBID,
    }


def allowance(fields: Mapping[str, str], now: float, verify: Callable[[str, Seal], None]) -> Allowance:
    """What the fields of a form allow. Raises FieldMissing and UploadRefused; nothing of the policy is looked at
    before its seal is seen to be good."""
    for name in FIELDS:
        if not fields.get(name):
            raise FieldMissing(name)
    verify(fields["policy"], Seal(fields["OSSAccessKeyId"], _code(fields["Signature"])))
    document = json.loads(base64.b64decode(fields["policy"]))
    ends = datetime.strptime(document["expiration"], _MOMENT).replace(tzinfo=UTC)
    if now >= ends.timestamp():
        raise UploadRefused(Why.EXPIRED)
    (_, _, most), (_, _, where), *_ = document["conditions"]
    key = fields["key"]
    if not key.startswith(where + "/") or len(key) == len(where) + 1:
        raise UploadRefused(Why.OUTSIDE, where)
    for name, said in _FIXED.items():
        if fields.get(name, said) != said:
            raise UploadRefused(Why.CONDITION, f'"${name}", "{said}"')
    if len(key.encode()) > LONGEST_KEY or _CONTROL.search(key):
        raise UploadRefused(Why.NAME)
    tenant, model = document["for"]
    return Allowance(key, tenant, model, most)


def _code(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise UploadRefused(Why.FORGED) from None
