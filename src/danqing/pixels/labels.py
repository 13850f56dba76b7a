"""The implicit label that says a picture was generated: metadata, nothing visible. Knows no job and no setting.

GB 45438-2025 (in force since 2025-09-01) asks for it in the file's metadata, under the namespace of TC260, as one
JSON object of seven strings; an XMP packet carries it, and a PNG keeps XMP in one iTXt chunk (XMP part 3, 1.1.5).
"""

from __future__ import annotations

import json
import re

KEYWORD = "XML:com.adobe.xmp"
NAMESPACE = "http://www.tc260.org.cn/ns/AIGC/1.0/"
CODE = r"[!#-;=?-\[\]-~]+"
"""What a value may be made of: printable ASCII without space, quote, backslash, and nothing that XML would escape but
the ampersand, which is escaped."""
_PACKET = (
    '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
    '<x:xmpmeta xmlns:x="adobe:ns:meta/">'
    '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    f'<rdf:Description rdf:about="" xmlns:TC260="{NAMESPACE}">'
    "<TC260:AIGC>%s</TC260:AIGC>"
    "</rdf:Description></rdf:RDF></x:xmpmeta>"
    '<?xpacket end="w"?>'
)


def generated(producer: str, number: str) -> dict[str, str]:
    """The text chunk of a picture that `producer` made under `number`. Until somebody else spreads the file, who
    spreads it is who made it. ValueError if a value is not made of CODE."""
    for value in (producer, number):
        if not re.fullmatch(CODE, value):
            raise ValueError(
                f"{value!r} may not stand in a label: printable ASCII without space, quote, backslash"
            )
    label = {
        "Label": "1",
        "ContentProducer": producer,
        "ProduceID": number,
        "ReservedCode1": "",
        "ContentPropagator": producer,
        "PropagateID": number,
        "ReservedCode2": "",
    }
    said = json.dumps(label, separators=(",", ":"))
    return {KEYWORD: _PACKET % said.replace("&", "&amp;")}
