"""The text-and-image processor of a Qwen-Image-2.1 folder, built without torchvision. Refuses to know any pipeline.

The stock `Qwen3VLProcessor` insists on a video processor, and that on torchvision, which has no build for every
torch. Nobody here sends videos, so this one has none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, ProcessorMixin, Qwen2VLImageProcessorPil, Qwen3VLProcessor


class StillImageProcessor(Qwen3VLProcessor):  # type: ignore[misc]
    """A `Qwen3VLProcessor` for pictures only."""

    def __init__(
        self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None
    ) -> None:
        self.image_token = "<|image_pad|>"  # noqa: S105
        self.video_token = "<|video_pad|>"  # noqa: S105
        self.vision_start_token = "<|vision_start|>"  # noqa: S105
        self.vision_end_token = "<|vision_end|>"  # noqa: S105
        self.image_token_id = tokenizer.convert_tokens_to_ids(self.image_token)
        self.video_token_id = tokenizer.convert_tokens_to_ids(self.video_token)
        self.vision_start_token_id = tokenizer.convert_tokens_to_ids(self.vision_start_token)
        self.vision_end_token_id = tokenizer.convert_tokens_to_ids(self.vision_end_token)
        ProcessorMixin.__init__(self, image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def get_attributes(cls) -> list[str]:
        """What it is made of; no video processor."""
        return ["image_processor", "tokenizer"]


def build_processor(folder: Path) -> ProcessorMixin:
    """From any checkpoint folder of the 2.1 layout; pass it as `processor=` to `from_pretrained`."""
    folder = Path(folder)
    inner = folder / "processor" if (folder / "processor").is_dir() else folder
    words = next((place for place in (inner, folder / "tokenizer") if _has_tokenizer(place)), inner)
    tokenizer = AutoTokenizer.from_pretrained(words)
    images = Qwen2VLImageProcessorPil(**_image_settings(inner))
    return StillImageProcessor(images, tokenizer, chat_template=_template(inner, words, tokenizer))


def _has_tokenizer(folder: Path) -> bool:
    return (folder / "tokenizer.json").is_file() or (folder / "vocab.json").is_file()


def _image_settings(folder: Path) -> dict[str, Any]:
    """Older folders keep them in a file of their own, newer ones inside the processor's."""
    for name in ("preprocessor_config.json", "processor_config.json"):
        path = folder / name
        if path.is_file():
            found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            settings = found.get("image_processor", found)
            # One vision slot must stand for exactly 2x2 latents: never resize again what the pipeline resized.
            return {k: v for k, v in settings.items() if not k.endswith(("_type", "_class"))}
    return {}


def _template(inner: Path, words: Path, tokenizer: Any) -> str | None:
    for folder in (inner, words):
        plain, wrapped = folder / "chat_template.jinja", folder / "chat_template.json"
        if plain.is_file():
            return plain.read_text(encoding="utf-8")
        if wrapped.is_file():
            template: str = json.loads(wrapped.read_text(encoding="utf-8"))["chat_template"]
            return template
    found: str | None = tokenizer.chat_template
    return found
