"""What Schemathesis draws for pictures. Read by its own program, in an environment of its own: knows nothing of this
project but the address of a host of pictures, in DANQING_TEST_PICTURES.
"""

import base64
import os
import struct
import zlib

import schemathesis
from hypothesis import strategies as st


def png(width: int, height: int, value: int) -> bytes:
    """A grey picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes([value]) * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def uri(data: bytes, kind: str = "png") -> str:
    """A data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


HOST = os.environ.get("DANQING_TEST_PICTURES", "127.0.0.1:9")
GOOD = [
    uri(png(600, 600, 90)),
    uri(png(640, 512, 200)),
    f"http://{HOST}/600x800/red.png",
    f"http://{HOST}/a.jpg",
]
BAD = [
    uri(png(600, 600, 90)[:-40]),
    uri(png(1, 1, 0)),
    uri(b"GIF89a", "gif"),
    "data:image/png;base64,",
    "data:image/png,plain",
    "data:;base64,AAAA",
    f"http://{HOST}/page",
    f"http://{HOST}/nothing",
    "http://127.0.0.1:1/a.png",
    "http://[::1]/a.png",
    "http://169.254.169.254/latest",
    "ftp://example.com/a.png",
    "file:///etc/passwd",
    "oss://dashscope-instant/none/a.png",
    "oss://",
    "http://",
    "abc",
    "",
]
schemathesis.openapi.format(
    "uri", st.one_of(st.sampled_from(GOOD), st.sampled_from(GOOD), st.sampled_from(BAD), st.text(max_size=60))
)


WORDS = [{"text": "a red circle"}, {"text": "make it winter, 冬天"}, {"text": "x" * 3000}]
MODELS = ["qwen-image-edit-plus", "wan2.7-image", "wan2.5-i2i-preview", "none"]


@schemathesis.hook
def map_body(context, body):
    """Half of the bodies whose messages might be anything are given one that a model can follow."""
    if not isinstance(body, dict) or "model" not in body or len(repr(body)) % 2:
        return body
    pictures = [{"image": GOOD[len(repr(body)) // 2 % len(GOOD)]}] * (len(repr(body)) // 4 % 3)
    given = body.get("input")
    if isinstance(given, dict) and isinstance(given.get("messages"), list):
        content = [*pictures, WORDS[len(repr(body)) // 8 % len(WORDS)]]
        body["input"] = {**given, "messages": [{"role": "user", "content": content}]}
    elif isinstance(given, dict) and context.operation.path.endswith("image2image/image-synthesis"):
        images = [picture["image"] for picture in pictures]
        body["input"] = {**given, "prompt": "a red circle", "images": images, "base_image_url": GOOD[0]}
    return body


@schemathesis.hook
def map_query(context, query):
    """Permits are asked for models that there are."""
    if context.operation.path.endswith("/uploads") and isinstance(query, dict) and "model" in query:
        query["model"] = MODELS[len(str(query["model"])) % len(MODELS)]
    return query
