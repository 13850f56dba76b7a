"""Every picture says in its metadata that it was generated, once, as other readers of XMP find it."""

from __future__ import annotations

import io
import json
from xml.etree import ElementTree

import pytest
from PIL import Image

from danqing.core.raster import Raster, Size
from danqing.pixels.labels import KEYWORD, NAMESPACE, generated
from danqing.pixels.png import encode


def _read(png: bytes) -> dict[str, str]:
    picture = Image.open(io.BytesIO(png))
    packet = picture.info[KEYWORD]
    tree = ElementTree.fromstring(packet[packet.index("<x:xmpmeta") : packet.index("<?xpacket end")])
    (said,) = tree.iter(f"{{{NAMESPACE}}}AIGC")
    label: dict[str, str] = json.loads(said.text or "")
    return label


def test_a_png_carries_the_label_and_keeps_its_pixels() -> None:
    raster = Raster(Size(2, 1), 3, b"\x01\x02\x03\x04\x05\x06")
    png = encode(raster, text=generated("danqing", "2f1c-0"))
    assert _read(png) == {
        "Label": "1",
        "ContentProducer": "danqing",
        "ProduceID": "2f1c-0",
        "ReservedCode1": "",
        "ContentPropagator": "danqing",
        "PropagateID": "2f1c-0",
        "ReservedCode2": "",
    }
    assert png.count(b"TC260:AIGC>") == 2
    assert Image.open(io.BytesIO(png)).convert("RGB").tobytes() == raster.data


def test_an_ampersand_survives() -> None:
    png = encode(Raster(Size(1, 1), 3, b"abc"), text=generated("A&B", "1"))
    assert _read(png)["ContentProducer"] == "A&B"


@pytest.mark.parametrize("code", ["", "two words", 'a"b', "a\\b", "丹青", "a<b", "a\n"])
def test_other_letters_are_refused(code: str) -> None:
    with pytest.raises(ValueError, match="label"):
        generated(code, "1")
