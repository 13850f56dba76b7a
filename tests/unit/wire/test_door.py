"""By which region and workspace a request came in."""

from __future__ import annotations

import pytest

from danqing.core.keys import Place
from danqing.wire.door import place


@pytest.mark.parametrize(
    ("prefix", "host", "workspace", "found"),
    [
        ("", "localhost:8000", None, Place()),
        ("", "", None, Place()),
        ("", "[::1]:8000", None, Place()),
        ("/my/proxy", "10.0.0.1", None, Place()),
        ("/ap-southeast-1", "localhost", None, Place("ap-southeast-1")),
        ("/images/us-east-1/", "localhost", None, Place("us-east-1")),
        ("/us-east-1/images", "localhost", None, Place()),
        ("/mars-north-1", "localhost", None, Place()),
        ("", "dashscope.aliyuncs.com", None, Place("cn-beijing")),
        ("", "DashScope-intl.aliyuncs.com.:443", None, Place("ap-southeast-1")),
        ("", "dashscope-us.aliyuncs.com", None, Place("us-east-1")),
        ("", "cn-hongkong.dashscope.aliyuncs.com", None, Place("cn-hongkong")),
        ("", "dashscope.example.com", None, Place()),
        ("", "images.eu-central-1.example.com", None, Place("eu-central-1")),
        ("", "llm-1.ap-northeast-1.maas.aliyuncs.com", None, Place("ap-northeast-1", "llm-1")),
        ("", "llm-1.ap-northeast-1.maas.aliyuncs.com", "llm-2", Place("ap-northeast-1", "llm-2")),
        ("", "llm-1.ap-northeast-1.example.com", None, Place("ap-northeast-1")),
        ("/us-east-1", "x.eu-central-1.example.com", None, Place("us-east-1")),
        ("", "localhost", " llm-1 ", Place("", "llm-1")),
        ("", "localhost", "", Place()),
    ],
)
def test_where_a_request_came_in(prefix: str, host: str, workspace: str | None, found: Place) -> None:
    assert place(prefix, host, workspace) == found
