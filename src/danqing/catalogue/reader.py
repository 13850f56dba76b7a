"""One TOML table read key by key: types checked, leftovers refused. Knows nothing of models."""

from __future__ import annotations

from typing import Any

_NOTHING: Any = object()


class CatalogueError(ValueError):
    """A catalogue file that must not be used. The text names the file, the key and what is wrong with it."""

    def __init__(self, file: str, key: str, problem: str) -> None:
        """`key` is dotted, as in TOML; empty for the file as a whole."""
        self.file, self.key, self.problem = file, key, problem
        super().__init__(f"{file}: {key}: {problem}" if key else f"{file}: {problem}")


class Table:
    """A table of a file. Every read names its key; `close` refuses the keys that nobody read.

    All readers raise CatalogueError for a missing key without a default and for a value of another type.
    """

    def __init__(self, file: str, path: str, values: dict[str, Any]) -> None:
        """`path` is the table's own dotted key in the file."""
        self._file, self._path, self._values = file, path, values
        self._read: set[str] = set()

    def error(self, key: str, problem: str) -> CatalogueError:
        """The complaint about one key of this table."""
        return CatalogueError(self._file, ".".join(part for part in (self._path, key) if part), problem)

    def close(self) -> None:
        """Refuse what was not read."""
        for key in self._values:
            if key not in self._read:
                raise self.error(key, "unknown key")

    def has(self, key: str) -> bool:
        """Whether the key is there."""
        return key in self._values

    def names(self) -> list[str]:
        """The keys, in the order of the file; for tables whose keys are data."""
        return list(self._values)

    def any(self, key: str, default: Any = _NOTHING) -> Any:
        """The value as it stands."""
        self._read.add(key)
        value = self._values.get(key, default)
        if value is _NOTHING:
            raise self.error(key, "missing")
        return value

    def raw(self, key: str, default: Any = _NOTHING) -> dict[str, Any]:
        """A table within this one, as a dict."""
        value = self.any(key, default)
        if not isinstance(value, dict):
            raise self.error(key, "expected a table")
        return value

    def table(self, key: str, default: Any = _NOTHING) -> Table:
        """A table within this one."""
        return Table(self._file, f"{self._path}.{key}" if self._path else key, self.raw(key, default))

    def text(self, key: str, default: Any = _NOTHING) -> str:
        """A string."""
        value = self.any(key, default)
        if not isinstance(value, str):
            raise self.error(key, "expected a string")
        return value

    def truth(self, key: str, default: Any = _NOTHING) -> bool:
        """True or false."""
        value = self.any(key, default)
        if not isinstance(value, bool):
            raise self.error(key, "expected true or false")
        return value

    def whole(self, key: str, default: Any = _NOTHING) -> int:
        """A whole number above zero."""
        value = self.any(key, default)
        if not _is_whole(value) or value < 1:
            raise self.error(key, "expected a whole number above zero")
        return int(value)

    def number_of(self, key: str, default: Any = _NOTHING) -> int:
        """A whole number, zero or more."""
        value = self.any(key, default)
        if not _is_whole(value) or value < 0:
            raise self.error(key, "expected a whole number, zero or more")
        return int(value)

    def optional_whole(self, key: str) -> int | None:
        """A whole number above zero, or None where the key is absent."""
        return self.whole(key) if self.has(key) else None

    def number(self, key: str, default: Any = _NOTHING) -> float:
        """A number, zero or more."""
        value = self.any(key, default)
        if not _is_number(value) or value < 0:
            raise self.error(key, "expected a number, zero or more")
        return float(value)

    def pair(self, key: str) -> tuple[int, int]:
        """Two whole numbers, zero or more."""
        value = self.any(key)
        if not _is_pair(value):
            raise self.error(key, "expected two whole numbers")
        return value[0], value[1]

    def pairs(self, key: str) -> tuple[tuple[int, int], ...]:
        """A list of pairs of whole numbers; empty where the key is absent."""
        value = self.any(key, [])
        if not isinstance(value, list) or not all(_is_pair(item) for item in value):
            raise self.error(key, "expected a list of pairs of whole numbers")
        return tuple((item[0], item[1]) for item in value)

    def bounds(self, key: str) -> tuple[int, int]:
        """A pair, the lower number first."""
        low, high = self.pair(key)
        if low > high:
            raise self.error(key, "expected the lower bound first")
        return low, high

    def span(self, key: str) -> tuple[float, float]:
        """Two numbers, the lower first."""
        value = self.any(key)
        if (
            not isinstance(value, list)
            or len(value) != 2
            or not all(map(_is_number, value))
            or value[0] > value[1]
        ):
            raise self.error(key, "expected two numbers, the lower first")
        return float(value[0]), float(value[1])

    def wholes(self, key: str) -> dict[str, int]:
        """A table of whole numbers; empty where the key is absent."""
        value = self.raw(key, {})
        if not all(_is_whole(item) for item in value.values()):
            raise self.error(key, "expected a table of whole numbers")
        return dict(value)

    def strings(self, key: str, default: Any = _NOTHING) -> list[str]:
        """A list of strings."""
        value = self.any(key, default)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(key, "expected a list of strings")
        return value

    def texts(self, key: str) -> dict[str, str]:
        """A table of strings; empty where the key is absent."""
        value = self.raw(key, {})
        if not all(isinstance(item, str) for item in value.values()):
            raise self.error(key, "expected a table of strings")
        return dict(value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_pair(value: object) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(_is_whole(item) and item >= 0 for item in value)
    )
