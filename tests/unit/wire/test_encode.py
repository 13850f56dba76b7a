"""Jobs and faults to DashScope JSON: the table is complete, and nothing internal gets out."""

from __future__ import annotations

import pytest

from danqing.catalogue.loader import load
from danqing.core.errors import (
    BadOrder,
    EngineFailed,
    Fault,
    OutOfTime,
    QueueFull,
    RateExceeded,
    Unavailable,
    leaves,
)
from danqing.core.job import Image, Job, State
from danqing.core.order import Brief
from danqing.core.raster import Size
from danqing.wire.dashscope import encode
from danqing.wire.dashscope.schema import Failure, Success


def job(count: int = 1, made: int = 1) -> Job:
    brief = Brief("m", "p", None, (), count, Size(1664, 928), 0)
    images = tuple(Image(f"k{index}", Size(1664, 928), "d") for index in range(made))
    return Job("id", "t", "api", brief, State.SUCCEEDED, 1, 0.0, images=images)


@pytest.mark.parametrize("leaf", list(leaves()), ids=lambda leaf: leaf.__name__)
def test_every_leaf_of_the_fault_tree_has_a_row(leaf: type[Fault]) -> None:
    answer = encode.fault(leaf(), "r")
    Failure.model_validate(answer.body)
    assert 400 <= answer.status < 600
    assert answer.body["message"]


def test_the_table_has_no_row_for_anything_else() -> None:
    assert set(encode.CODES) == set(leaves())


def test_only_faults_written_for_callers_speak_for_themselves() -> None:
    assert encode.fault(BadOrder("lack of image or text"), "r").body["message"] == "lack of image or text"
    answer = encode.fault(EngineFailed("CUDA out of memory at /srv/models"), "r")
    assert answer.body["message"] == "An internal error has occured during algorithm execution."


def test_5xx_is_only_for_our_own_faults() -> None:
    ours = {leaf.__name__ for leaf in leaves() if encode.CODES[leaf].status >= 500}
    assert ours == {"EngineFailed", "OutOfTime", "Unchecked", "Unavailable", "Internal"}


def test_a_client_is_told_when_to_come_back_or_not_at_all() -> None:
    assert encode.fault(RateExceeded(after=29.2), "r").headers == {"Retry-After": "30"}
    assert encode.fault(QueueFull(), "r").headers == {"Retry-After": "1"}
    assert encode.fault(Unavailable(), "r").headers == {"Retry-After": "1"}
    assert encode.fault(OutOfTime(), "r").headers == {"x-should-retry": "false"}


@pytest.mark.parametrize("family", sorted({model.family for model in load().values()}))
def test_every_family_of_the_catalogue_has_a_shape(family: str) -> None:
    answer = encode.success(job(), family, ["https://h/a.png"], "r")
    Success.model_validate(answer.body)
    assert not answer.body.keys() & {"code", "message", "status_code"}


def test_all_pictures_stand_in_one_choice() -> None:
    output = encode.success(job(2, 2), "QE", ["u1", "u2"], "r").body["output"]
    assert output == {
        "choices": [
            {
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": [{"image": "u1"}, {"image": "u2"}]},
            }
        ]
    }


def test_the_first_family_counts_its_pictures() -> None:
    body = encode.success(job(), "Q1", ["u"], "r").body
    assert body["output"]["task_metric"] == {"TOTAL": 1, "SUCCEEDED": 1, "FAILED": 0}
    assert body["usage"] == {"image_count": 1, "width": 1664, "height": 928}
