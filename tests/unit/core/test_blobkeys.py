"""The grammar of blob keys: what it makes it knows again, and nothing else."""

from __future__ import annotations

import pytest

from danqing.core import blobkeys

DIGEST = "ab" * 32
NONCE = "0123456789abcdef" * 2


def test_an_inputs_key_is_its_tenants_and_its_contents() -> None:
    key = blobkeys.input_key("a tenant/../x", DIGEST)
    assert blobkeys.is_input(key)
    assert key.endswith(DIGEST)
    assert key != blobkeys.input_key("another", DIGEST)
    assert "tenant" not in key


def test_a_results_key_begins_with_its_random_digits() -> None:
    key = blobkeys.result_key("3f2a-1", 2, "20261121", NONCE)
    assert key == f"01/23/20261121/{NONCE}/3f2a-1-2.png"
    assert blobkeys.is_result(key)
    assert not blobkeys.is_input(key)


def test_random_digits_differ() -> None:
    assert len({blobkeys.new_nonce() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("job", "index", "day", "nonce"),
    [
        ("../x", 0, "20261121", NONCE),
        ("", 0, "20261121", NONCE),
        ("a", -1, "20261121", NONCE),
        ("a", 1000, "20261121", NONCE),
        ("a", 0, "2026", NONCE),
        ("a", 0, "20261121", "xyz"),
        ("a\n", 0, "20261121", NONCE),
        ("a", 0, "20261121", NONCE + "\n"),
    ],
)
def test_nothing_leaves_the_grammar(job: str, index: int, day: str, nonce: str) -> None:
    with pytest.raises(ValueError, match=r"not a"):
        blobkeys.result_key(job, index, day, nonce)


def test_an_input_without_a_digest_has_no_key() -> None:
    with pytest.raises(ValueError, match="hexadecimal"):
        blobkeys.input_key("t", "../../etc/passwd")


@pytest.mark.parametrize(
    "key",
    [
        "",
        "inputs/x",
        f"inputs/{'0' * 16}/{DIGEST}/..",
        f"01/24/20261121/{NONCE}/a-0.png",
        f"01/23/20261121/{NONCE}/a/b-0.png",
        f"01/23/20261121/{NONCE}/a-0.png\n",
        f"/01/23/20261121/{NONCE}/a-0.png",
    ],
)
def test_other_paths_are_not_keys(key: str) -> None:
    assert not blobkeys.is_input(key)
    assert not blobkeys.is_result(key)
