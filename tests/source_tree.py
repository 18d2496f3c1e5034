"""The package's source as a tree of files, read with `ast` and without importing any of it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

PACKAGE = "relatent"
OUTSIDE = {"tests", "examples", "docs"}  # beside the package in its root, not in it


@dataclass(frozen=True)
class Import:
    """One file imports another; both are paths relative to the package's root."""

    source: str
    target: str
    line: int
    lazy: bool  # inside a function
    typing: bool  # under `if TYPE_CHECKING`

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


class SourceTree:
    """Every Python file under `root` but those of `OUTSIDE`, hidden folders and folders that hold no package."""

    def __init__(self, root: Path, folders: tuple[str, ...]) -> None:
        """`folders` are read although no Python file may lie directly in them, as in one of sub-packages alone."""
        self.root = root
        found = {path.parent.name for path in root.glob("[!.]*/*.py")} - OUTSIDE
        paths = [*root.glob("*.py"), *(path for name in {*found, *folders} for path in (root / name).rglob("*.py"))]
        self.texts = {path.relative_to(root).as_posix(): path.read_text(encoding="utf-8") for path in sorted(paths)}
        self.parsed = {path: ast.parse(text, path) for path, text in self.texts.items()}

    def imports(self) -> list[Import]:
        """What the files import of each other, inside functions and under `if TYPE_CHECKING` too."""
        return [one for path, module in self.parsed.items() for one in self._walk(path, module, False, False)]

    def _walk(self, path: str, node: ast.AST, lazy: bool, typing: bool) -> Iterator[Import]:
        for target in self._targets(path, node):
            yield Import(path, target, node.lineno, lazy, typing)  # type: ignore[attr-defined]
        lazy = lazy or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        guarded = node.body if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") else []
        for child in ast.iter_child_nodes(node):
            yield from self._walk(path, child, lazy, typing or child in guarded)

    def _targets(self, path: str, node: ast.AST) -> set[str]:
        if isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            return {self.file(name[1:]) for name in names if name[0] == PACKAGE}
        if not isinstance(node, ast.ImportFrom):
            return set()
        module = node.module.split(".") if node.module else []
        if node.level:
            folder = path.split("/")[:-1]
            module = folder[: len(folder) - node.level + 1] + module
        elif module[0] == PACKAGE:
            module = module[1:]
        else:
            return set()
        deeper = {alias.name: self.file([*module, alias.name]) for alias in node.names}
        return {target if target in self.texts else self.file(module) for target in deeper.values()}

    def file(self, name: list[str]) -> str:
        """The path of the module with that name inside the package, whether it exists or not."""
        package = "/".join([*name, "__init__.py"])
        return package if package in self.texts or not name else "/".join(name) + ".py"

    def defines(self, module: str, name: str) -> bool:
        """Does that module, by its dotted name inside the package, exist and bind that name?"""
        parsed = self.parsed.get(self.file(module.split(".")))
        return parsed is not None and any(name in _bound(node) for node in parsed.body)

    def functions(self) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
        """Every function and method with its file."""
        for path, module in self.parsed.items():
            for node in ast.walk(module):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    yield path, node

    def folders(self) -> dict[str, list[str]]:
        """Each folder that holds Python files, with their names; the root is "."."""
        found: dict[str, list[str]] = {}
        for path in map(PurePosixPath, self.texts):
            found.setdefault(str(path.parent), []).append(path.name)
        return found


def _bound(node: ast.stmt) -> set[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return {alias.asname or alias.name for alias in node.names}
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return {target.id for target in targets if isinstance(target, ast.Name)}


def code_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many lines a function has, its docstring and the lines of its argument list not counted."""
    first = function.body[0]
    before = (first.end_lineno or 0) if ast.get_docstring(function) is not None else first.lineno - 1
    return 1 + (function.end_lineno or 0) - before
