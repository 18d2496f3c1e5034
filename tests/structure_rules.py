"""The rules of the package's structure, each a function from a source tree to the lines that say what breaks it."""

import tomllib
from collections.abc import Iterable
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from source_tree import PACKAGE, SourceTree, code_lines

LAYERS = ("kernels", "engine", "exporters", "factory", "systems", "integrations", "cli")  # each may import those before
BENCHMARKS, RESEARCH = "benchmarks", "benchmarks/research"  # research is not in the wheel
MOST_MODULES, MOST_LINES, MOST_FUNCTION_LINES = 16, 320, 60
LONG = "# Long because: "


def read(root: Path) -> SourceTree:
    return SourceTree(root, (*LAYERS, BENCHMARKS))


def top(path: str) -> str:
    """The top-level package of a file; "" for the root's own."""
    return path.split("/")[0] if "/" in path else ""


def wrong_way(tree: SourceTree) -> list[str]:
    """Imports against the order of `LAYERS`, from one system to another, of benchmarks, of what is not in the wheel or
    does not exist."""
    rank = {name: i for i, name in enumerate((*LAYERS, ""))}  # the root's __init__ offers names of all of them
    unknown = {top(path) for path in tree.texts} - set(rank) - {BENCHMARKS}
    found = [f"{name}/ has no place in the order {' → '.join(reversed(LAYERS))}" for name in sorted(unknown)]
    for one in tree.imports():
        source, target = top(one.source), top(one.target)
        if one.target not in tree.texts or (_research(one.target) and not _research(one.source)):
            allowed = False
        elif source == target:
            allowed = not (source == "systems" and _different_systems(one.source, one.target))
        elif source == BENCHMARKS or {source, target} & unknown:
            allowed = True
        elif target == BENCHMARKS:
            allowed = source == "cli" and one.lazy
        else:
            allowed = rank[target] < rank[source]
        if not allowed:
            found.append(str(one))
    return found


def _research(path: str) -> bool:
    return path.startswith(f"{RESEARCH}/")


def _different_systems(*paths: str) -> bool:
    names = {path.split("/")[1].removesuffix(".py") for path in paths}
    return len(names - {"__init__"}) > 1


def circles(tree: SourceTree) -> list[str]:
    """A circle of files that import each other, those inside functions included, if there is one."""
    graph: dict[str, set[str]] = {path: set() for path in tree.texts}
    for one in tree.imports():
        if not one.typing and one.target != one.source:
            graph[one.source].add(one.target)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        names = error.args[1][:0:-1]
        first = names.index(min(names))
        return [" imports ".join([*names[first:], *names[:first], names[first]])]
    return []


def unresolved(tree: SourceTree, registry: Iterable[tuple[str, str]]) -> list[str]:
    """Modules, by their dotted names inside the package, that do not define the name they are registered for."""
    return [f"{module} defines no {name}" for module, name in registry if not tree.defines(module, name)]


def packaging(tree: SourceTree) -> list[str]:
    """Where pyproject.toml's packages and package-data differ from the files."""
    setuptools = tomllib.loads((tree.root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    declared, folders = set(setuptools["packages"]), tree.folders()
    parents = {str(parent) for path in tree.texts for parent in Path(path).parents}
    found = [f"{name}/ has no __init__.py" for name in sorted(parents) if "__init__.py" not in folders.get(name, [])]
    packages = [name for name, files in folders.items() if "__init__.py" in files and not _research(f"{name}/")]
    names = {".".join([PACKAGE, *Path(name).parts]) for name in packages}
    found += [f"{name} is not in pyproject.toml's packages" for name in sorted(names - declared)]
    found += [f"pyproject.toml's package {name} does not exist" for name in sorted(declared - names)]
    for name, patterns in setuptools.get("package-data", {}).items():
        folder = tree.root.joinpath(*name.split(".")[1:])
        found += [f"{name}: {pattern} matches no file" for pattern in patterns if not any(folder.glob(pattern))]
    return found


def crowded(tree: SourceTree) -> list[str]:
    """Folders with more than `MOST_MODULES` modules beside __init__.py."""
    counts = {name: len(set(files) - {"__init__.py"}) for name, files in tree.folders().items()}
    return [f"{name}/ has {count} modules" for name, count in counts.items() if count > MOST_MODULES]


def long_files(tree: SourceTree) -> list[str]:
    """Files of more than `MOST_LINES` lines that give no reason among their first 15."""
    lines = {path: text.splitlines() for path, text in tree.texts.items()}
    return [
        f"{path} has {len(text)} lines"
        for path, text in lines.items()
        if len(text) > MOST_LINES and not any(line.startswith(LONG) and line[len(LONG) :].strip() for line in text[:15])
    ]


def long_functions(tree: SourceTree, tables: dict[str, str]) -> list[str]:
    """Functions of more than `MOST_FUNCTION_LINES` lines, docstring and argument list not counted, but for `tables`."""
    lengths = {f"{path}:{node.name}": code_lines(node) for path, node in tree.functions()}
    found = {name: lines for name, lines in lengths.items() if lines > MOST_FUNCTION_LINES}
    stale = [f"{name} is no long function any more" for name in tables if name not in found]
    return [f"{name} has {lines} lines" for name, lines in found.items() if not tables.get(name)] + stale
