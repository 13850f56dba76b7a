"""Size budgets: lengths of modules and functions, broad `except`s, and what each file must say first.

Prints what is over budget and ends with 1. Knows nothing about what the code does. `python -m tools.shape`.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULE_LINES = 600
FUNCTION_LINES = 60
POSITIONAL = 3
BROAD_EXCEPTS = 6
BANNED_NAMES = {"utils", "util", "common", "helpers", "helper", "manager", "base", "misc"}
ENVIRONMENT_READERS = {"src/danqing/settings.py"}
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


def body_lines(node: FunctionNode) -> int:
    """Lines of a function without its docstring."""
    lines = (node.end_lineno or node.lineno) - node.lineno + 1
    if ast.get_docstring(node) is not None:
        first = node.body[0]
        lines -= (first.end_lineno or first.lineno) - first.lineno + 1
    return lines


def positional(node: FunctionNode) -> int:
    """Parameters that may be passed by position, self and cls aside."""
    names = [a.arg for a in node.args.posonlyargs + node.args.args]
    return len([name for name in names if name not in ("self", "cls")])


def function_faults(tree: ast.AST, where: str) -> Iterator[str]:
    """Functions over the budgets."""
    for node in ast.walk(tree):
        if not isinstance(node, FunctionNode):
            continue
        if (lines := body_lines(node)) > FUNCTION_LINES:
            yield f"{where}:{node.lineno}: {node.name} has {lines} lines, at most {FUNCTION_LINES}"
        if positional(node) > POSITIONAL + 2:
            taken = positional(node)
            rest = f"keyword-only after {POSITIONAL}"
            yield f"{where}:{node.lineno}: {node.name} takes {taken} by position; {rest}"


def reads_environment(node: ast.AST) -> bool:
    """Whether this is `os.environ` or `os.getenv`."""
    if not isinstance(node, ast.Attribute) or node.attr not in {"environ", "getenv"}:
        return False
    return isinstance(node.value, ast.Name) and node.value.id == "os"


def banned_faults(tree: ast.AST, where: str) -> Iterator[str]:
    """Globals, and environment reads outside the settings."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Global):
            yield f"{where}:{node.lineno}: no `global`"
        if reads_environment(node) and where not in ENVIRONMENT_READERS:
            yield f"{where}:{node.lineno}: the environment is read in settings.py alone"


def broad_excepts(tree: ast.AST, source: list[str], where: str) -> Iterator[tuple[str, bool]]:
    """Each `except Exception` or wider: where, and whether its line says which boundary it guards."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.ExceptHandler):
            continue
        if isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None:
            continue  # tidies up and lets the exception go on: nothing is swallowed
        names = (
            {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {"BaseException"}
        )
        if names & {"Exception", "BaseException"}:
            yield f"{where}:{node.lineno}", "# boundary:" in source[node.lineno - 1]


def examine(path: Path, *, package: bool) -> tuple[list[str], list[tuple[str, bool]]]:
    """The faults of one file, and its broad excepts."""
    where = path.relative_to(ROOT).as_posix()
    text = path.read_text(encoding="utf-8")
    source = text.splitlines()
    tree = ast.parse(text)
    faults = [*function_faults(tree, where)]
    if len(source) > MODULE_LINES:
        faults.append(f"{where}: {len(source)} lines, at most {MODULE_LINES}")
    if path.stem in BANNED_NAMES:
        faults.append(f"{where}: a module of this name says nothing")
    if not package:
        return faults, []
    if ast.get_docstring(tree) is None and text.strip():
        faults.append(f"{where}: opens without saying what it is for")
    return [*faults, *banned_faults(tree, where)], [*broad_excepts(tree, source, where)]


def main() -> int:
    """Check src, training, tools and bench; tests only for module and function length."""
    faults: list[str] = []
    broad: list[tuple[str, bool]] = []
    for folder in ("src", "training", "tools", "bench", "tests"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            found, excepts = examine(path, package=folder == "src")
            faults += found
            broad += excepts
    faults += [
        f"{where}: a broad except says `# boundary: why`" for where, explained in broad if not explained
    ]
    if len(broad) > BROAD_EXCEPTS:
        faults.append(
            f"{len(broad)} broad excepts in the package, at most {BROAD_EXCEPTS}: "
            + ", ".join(w for w, _ in broad)
        )
    sys.stdout.write("\n".join(faults) + ("\n" if faults else ""))
    sys.stdout.write(f"shape: {len(faults)} over budget, {len(broad)} of {BROAD_EXCEPTS} broad excepts\n")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
