"""Calls of the official SDK, of whichever release the interpreter that runs this file has.

A program of its own: it needs the standard library and `dashscope`, nothing of this project, so that a release which
cannot be installed beside the project's own can be tried from an environment of its own. The SDK finds the server and
the key by its own environment variables, DASHSCOPE_HTTP_BASE_URL and DASHSCOPE_API_KEY.

    python sdk_calls.py PICTURES CALL...    PICTURES: a folder with red.png, green.png and blue.png

Prints a line of JSON for each call: `{"call": ..., "found": "ok" | "absent" | what went wrong}`.
"""

import asyncio
import base64
import json
import pathlib
import struct
import sys
import traceback
import urllib.request
import zlib

from dashscope import ImageSynthesis, MultiModalConversation
from dashscope.version import __version__

COLOURS = {(200, 30, 40): "red", (30, 190, 60): "green", (40, 60, 210): "blue", (128, 128, 128): "grey"}
RELEASE = tuple(int(number) for number in __version__.split("."))
I2I = dict(
    {"model": "wan2.5-i2i-preview", "prompt": "make it winter", "n": 1, "size": "768*768"},
    **({} if RELEASE >= (1, 24, 7) else {"task": "image2image"}),
)
"""Older releases than 1.24.7 do not know by the model's name where it is to be had, and do not send local files of a
list."""

TASK = {"model": "wan2.2-t2i-flash", "prompt": "a red circle", "size": "512*512"}
PICTURES = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else ".")


class Absent(Exception):
    """This release does not have the call."""


def same(found, wanted):
    if found != wanted:
        raise AssertionError(f"{found!r}, not {wanted!r}")


def uri(colour):
    data = (PICTURES / (colour + ".png")).read_bytes()
    return "data:image/png;base64," + base64.b64encode(data).decode()


def local(colour):
    return str((PICTURES / (colour + ".png")).resolve())


def look(link):
    """Width, height and the colour of the first pixel of a PNG; the house paints pictures of one colour."""
    with urllib.request.urlopen(link, timeout=60) as got:
        same(got.headers["content-type"], "image/png")
        data = got.read()
    same(data[:8], b"\x89PNG\r\n\x1a\n")
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    same((depth, kind), (8, 2))
    packed, at = b"", 8
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        if data[at + 4 : at + 8] == b"IDAT":
            packed += data[at + 8 : at + 8 + length]
        at += length + 12
    return width, height, COLOURS.get(tuple(zlib.decompress(packed)[1:4]))


def good(answer):
    same((answer.status_code, answer.code or "", answer.message or ""), (200, "", ""))
    same(len(answer.request_id), 36)
    return answer


def shown(answer):
    """What the pictures of an answer in choices look like."""
    made = [item for choice in good(answer).output.choices for item in choice.message.content]
    return [look(item["image"]) for item in made]


def results(answer):
    """What the pictures of a finished task look like."""
    same(good(answer).output.task_status, "SUCCEEDED")
    return [look(result.url) for result in answer.output.results]


def talk(*images, text="make it winter"):
    return [{"role": "user", "content": [{"image": image} for image in images] + [{"text": text}]}]


def edit(*images, **more):
    given = dict({"model": "qwen-image-edit-max", "size": "512*768", "n": 1}, **more)
    return MultiModalConversation.call(messages=talk(*images), **given)


# calls that are answered at once


def edit_with_data_uris():
    answer = edit(
        uri("red"), uri("green"), uri("blue"), n=2, stream=False, watermark=False, negative_prompt=" "
    )
    same(shown(answer), [(512, 768, "blue")] * 2)
    same((answer.usage["image_count"], answer.usage["width"], answer.usage["height"]), (2, 512, 768))
    same(answer.output.choices[0].finish_reason, "stop")
    json.dumps(answer, ensure_ascii=False)


def text_to_image():
    answer = MultiModalConversation.call(
        model="qwen-image-2.0-pro",
        messages=talk(text="three puppies on the grass"),
        result_format="message",
        stream=False,
        watermark=False,
        prompt_extend=True,
        negative_prompt="blurred",
        size="512*768",
    )
    same(shown(answer), [(512, 768, "grey")])


def edit_with_local_paths():
    same(shown(edit(local("red"), local("green"))), [(512, 768, "green")])


def edit_with_file_urls():
    same(shown(edit("file://" + local("blue"), "file://" + local("red"))), [(512, 768, "red")])


def edit_streamed():
    (answer,) = list(edit(uri("green"), stream=True))
    same(shown(answer), [(512, 768, "green")])


def edit_with_asyncio():
    try:
        from dashscope import AioMultiModalConversation
    except ImportError:
        raise Absent from None
    given = {"model": "qwen-image-edit-max", "size": "512*768", "n": 1}
    asked = AioMultiModalConversation.call(messages=talk(uri("red"), local("blue")), **given)
    same(shown(asyncio.run(asked)), [(512, 768, "blue")])


def errors():
    answer = edit(uri("red"), n=7)
    same((answer.status_code, answer.code, len(answer.request_id)), (400, "InvalidParameter", 36))
    answer = edit(uri("red"), api_key="sk-wrong")
    same((answer.status_code, answer.code), (401, "InvalidApiKey"))
    same(answer.message, "Invalid API-key provided.")


# calls that are tasks


def task_call():
    answer = ImageSynthesis.call(n=2, seed=1, negative_prompt="blue", **TASK)
    same(results(answer), [(512, 512, "grey")] * 2)
    same(answer.usage["image_count"], 2)


def task_steps():
    task = good(ImageSynthesis.async_call(n=1, **TASK))
    same(task.output.task_status, "PENDING")
    waited, again = ImageSynthesis.wait(task), ImageSynthesis.fetch(task)
    same(results(waited), [(512, 512, "grey")])
    same(again.output.results[0].url, waited.output.results[0].url)
    same(ImageSynthesis.fetch(task.output.task_id).output.task_status, "SUCCEEDED")


def task_list():
    task = good(ImageSynthesis.async_call(n=1, **TASK))
    ImageSynthesis.wait(task)
    found = good(ImageSynthesis.list(page_no=1, page_size=3, model_name=TASK["model"], status="SUCCEEDED"))
    same(found.output["data"][0]["task_id"], task.output.task_id)


def task_that_fails():
    answer = ImageSynthesis.call(**dict(TASK, size="9*9"))
    same((answer.status_code, answer.output.task_status), (200, "FAILED"))
    same(answer.output["code"], "InvalidParameter")


def task_with_pictures():
    same(results(ImageSynthesis.call(images=[uri("red"), uri("blue")], **I2I)), [(768, 768, "blue")])


def task_with_local_pictures():
    if RELEASE < (1, 24, 7):
        raise Absent
    files = [local("red"), "file://" + local("green")]
    same(results(ImageSynthesis.call(images=files, **I2I)), [(768, 768, "green")])


def task_with_local_base():
    answer = ImageSynthesis.call(
        model="wanx2.1-imageedit",
        prompt="winter",
        function="description_edit",
        base_image_url=local("blue"),
        n=1,
    )
    same([colour for _, _, colour in results(answer)], ["blue"])


def task_with_asyncio():
    try:
        from dashscope.aigc.image_synthesis import AioImageSynthesis
    except ImportError:
        raise Absent from None
    same(results(asyncio.run(AioImageSynthesis.call(n=1, **TASK))), [(512, 512, "grey")])


def generation_class():
    try:
        from dashscope.aigc.image_generation import ImageGeneration
        from dashscope.api_entities.dashscope_response import Message
    except ImportError:
        raise Absent from None
    said = [Message(role="user", content=[{"text": "a red circle"}])]
    given = {"model": "wan2.6-t2i", "messages": said, "n": 2, "size": "768*768"}
    same(shown(ImageGeneration.call(**given)), [(768, 768, "grey")] * 2)
    task = good(ImageGeneration.async_call(**given))
    same(shown(ImageGeneration.wait(task)), [(768, 768, "grey")] * 2)


def task_cancelled():
    """Only where nothing works on the task meanwhile."""
    task = good(ImageSynthesis.async_call(n=1, **TASK))
    same(good(ImageSynthesis.fetch(task)).output.task_status, "PENDING")
    good(ImageSynthesis.cancel(task))
    same(ImageSynthesis.wait(task).output.task_status, "CANCELED")
    again = ImageSynthesis.cancel(task)
    same((again.status_code, again.code), (400, "UnsupportedOperation"))


IDLE = ["task_cancelled"]
CALLS = [
    "edit_with_data_uris",
    "text_to_image",
    "edit_with_local_paths",
    "edit_with_file_urls",
    "edit_streamed",
    "edit_with_asyncio",
    "errors",
    "task_call",
    "task_steps",
    "task_list",
    "task_that_fails",
    "task_with_pictures",
    "task_with_local_pictures",
    "task_with_local_base",
    "task_with_asyncio",
    "generation_class",
]


def tried(name):
    try:
        globals()[name]()
    except Absent:
        return "absent"
    except Exception:  # noqa: BLE001 - whatever a release raises is what is told
        return traceback.format_exc()
    return "ok"


def main():
    for name in sys.argv[2:] or CALLS:
        sys.stdout.write(json.dumps({"call": name, "found": tried(name)}) + "\n")


if __name__ == "__main__":
    main()
