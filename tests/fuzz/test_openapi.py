"""The service against its own OpenAPI page: whatever a client sends, the answer is one that the page declares.

`make fuzz` installs Schemathesis apart and runs this file; DANQING_TEST_SCHEMATHESIS names its program,
DANQING_TEST_CASES the least number of cases.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.open_house import open_house

PROGRAM = os.environ.get("DANQING_TEST_SCHEMATHESIS", "")
CASES = int(os.environ.get("DANQING_TEST_CASES", "5000"))
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
KEEP = os.environ.get("DANQING_TEST_REPORT", "")
"""Where what the program says is kept."""

OPERATIONS = 10
"""How many of the page's operations take enough to draw as many cases as they are asked for."""


@pytest.mark.slow
@pytest.mark.skipif(not PROGRAM, reason="DANQING_TEST_SCHEMATHESIS names no program; make fuzz")
def test_every_answer_is_one_that_the_page_declares(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    with open_house(tmp_path / "house") as house:
        intake = house.house.intake
        intake._terms = replace(intake._terms, polls=0)
        command = [
            *(PROGRAM, "run", house.url + "/openapi.json", "-H", f"Authorization: Bearer {house.key}"),
            *("--phases", "coverage,fuzzing", "--checks", CHECKS, "--continue-on-failure"),
            *("--max-examples", str(-(-CASES // OPERATIONS)), "--seed", "1", "--no-color"),
            *("--request-timeout", "60", "--suppress-health-check", "all", "--generation-database", "none"),
            *("--warnings", "off", "--report", "json", "--report-json-path", str(report)),
        ]
        found = {
            **os.environ,
            "SCHEMATHESIS_HOOKS": "hooks",
            "PYTHONPATH": str(Path(__file__).parent),
            "DANQING_TEST_PICTURES": house.house.place,
        }
        done = subprocess.run(
            command, cwd=tmp_path, env=found, capture_output=True, text=True, timeout=5400, check=False
        )
    if KEEP:
        Path(KEEP).write_text(done.stdout + done.stderr, encoding="utf-8")
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr[-4000:]
    assert json.loads(report.read_text("utf-8"))["test_cases"]["generated"] >= CASES
