"""How a checkpoint's modules are put on a device, as a profile says it. Data only; knows no tensor.

[checkpoints.NAME.loading]
dtype = "auto"            auto (bf16 on CUDA, fp32 elsewhere), bf16 or fp32
offload = "none"          none, model (a module is on the device while it is used), auto (if not all fits)
layerwise_fp8 = false     the transformer's weights lie in float8 and are widened, layer by layer, for use
attention = ""            a backend of diffusers by its name; empty leaves it to the library
compile = "off"           off, or regional: the repeated blocks of the transformer
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, get_args

Number = Literal["auto", "bf16", "fp32"]
Offload = Literal["none", "model", "auto"]
Compile = Literal["off", "regional"]
_CHOICES: dict[str, tuple[str, ...]] = {
    "dtype": get_args(Number),
    "offload": get_args(Offload),
    "compile": get_args(Compile),
}
_BACKEND = re.compile(r"[a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Loading:
    """See the top of this file. Raises ValueError, which names the entry."""

    dtype: Number = "auto"
    offload: Offload = "none"
    layerwise_fp8: bool = False
    attention: str = ""
    compile: Compile = "off"

    @property
    def narrows(self) -> bool:
        """Whether pictures are not those of the checkpoint's own pipeline: its weights, or what attention looks at,
        lose bits. Of diffusers' backends those of SageAttention do that, to eight bits and fewer."""
        return self.layerwise_fp8 or "sage" in self.attention

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} is {', '.join(choices)}, not {getattr(self, name)!r}")
        if not isinstance(self.layerwise_fp8, bool):
            raise ValueError(f"layerwise_fp8 is true or false, not {self.layerwise_fp8!r}")
        if not isinstance(self.attention, str) or not _BACKEND.fullmatch(self.attention):
            raise ValueError(f"attention is the name of a backend in small letters, not {self.attention!r}")
        if self.compile == "regional" and (self.layerwise_fp8 or self.offload == "model"):
            raise ValueError("compile = regional goes neither with layerwise_fp8 nor with offload = model")
