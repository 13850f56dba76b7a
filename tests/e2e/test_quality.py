"""The record of a job says how its pictures were made; the service's own bodies do not."""

from __future__ import annotations

import json
from typing import Any

from tests.support.served import Served

ASKED: dict[str, Any] = {
    "model": "qwen-image-2.0",
    "input": {"messages": [{"role": "user", "content": [{"text": "a star"}]}]},
    "parameters": {"size": "512*512", "seed": 1},
}


def test_a_job_names_its_contract_preset_and_steps_where_the_dialect_does_not(served: Served) -> None:
    status, told, headers = served.post(ASKED)
    assert status == 200, told
    found = served.get(f"/danqing/v1/jobs/{headers['x-request-id']}")[1]
    assert found["quality"] == {"contract": "exact", "checkpoint": "tiny", "preset": "default", "steps": 3}
    assert not {"contract", "preset", "quality"} & set(json.dumps(told).replace('"', " ").split())
