"""Who calls, and by which address: the key, the region and the workspace of a request. Knows no dialect's answers.

A region is named by the last part of the path before `/api/v1` or `/compatible-mode/v1`, else by the host: the hosted
service's own hosts, and any host with a region's name among its labels. A host `<workspace>.<region>.maas…` names a
workspace too. An address that names no known region is that of this installation's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from starlette.requests import Request

from danqing.core.keys import REGIONS, Place
from danqing.intake.keys import Caller
from danqing.wire.desk import Desk

HOSTS: Mapping[str, str] = MappingProxyType(
    {
        "dashscope.aliyuncs.com": "cn-beijing",
        "dashscope-intl.aliyuncs.com": "ap-southeast-1",
        "dashscope-us.aliyuncs.com": "us-east-1",
        "cn-hongkong.dashscope.aliyuncs.com": "cn-hongkong",
    }
)
_MAAS = "maas"
_WORKSPACE = "x-dashscope-workspace"


async def who(request: Request, desk: Desk) -> Caller:
    """The caller of a request. Raises NoKey, BadKey, WorkspaceUnknown."""
    secret = bearer(request.headers.get("authorization"))
    headers = request.headers
    found = place(request.state.prefix, headers.get("host", ""), headers.get(_WORKSPACE))
    return await desk.intake.who(secret, found)


def place(prefix: str, host: str, workspace: str | None) -> Place:
    """Where a request with this path prefix, Host header and workspace header came in. The header, where it names
    one, goes before the host."""
    asked = (workspace or "").strip()
    last = prefix.rstrip("/").rpartition("/")[2]
    name = host.partition(":")[0].rstrip(".").lower()
    labels = name.split(".")
    by_host = HOSTS.get(name) or next((label for label in labels if label in REGIONS), "")
    if not asked and len(labels) > 2 and labels[1] in REGIONS and labels[2] == _MAAS:
        asked = labels[0]
    return Place(last if last in REGIONS else by_host, asked or None)


def bearer(header: str | None) -> str | None:
    """The key of an Authorization header; the scheme is spelt in any case."""
    scheme, _, key = (header or "").strip().partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None
