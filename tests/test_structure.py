"""What the package's files may import, how they are packaged, how long they are.

Each rule holds for this package, and breaks on a small tree that is made to break it.
"""

from pathlib import Path

import pytest
import relatent
from relatent.engine.autoencoders.catalogue import CATALOGUE
from relatent.exporters.base.registry import FORMATS
from source_tree import SourceTree, code_lines
from structure_rules import (
    LONG,
    MOST_FUNCTION_LINES,
    MOST_LINES,
    MOST_MODULES,
    circles,
    crowded,
    long_files,
    long_functions,
    packaging,
    read,
    unresolved,
    wrong_way,
)

ROOT = Path(__file__).resolve().parents[1]
# functions that declare a table of arguments: "file:function" -> why it is not cut up
TABLES: dict[str, str] = {}
HOMES = [(module, name) for name, module in relatent._HOMES.items()]
EXPORTERS = [(f"exporters.{module}", name) for module, name, _ in FORMATS.values()]
LOADERS = [
    (f"engine.autoencoders.{module}", name) for module, name in (e.loader.split(":") for e in CATALOGUE.values())
]

RULES = {
    "wrong_way": wrong_way,
    "circles": circles,
    "homes": lambda tree: unresolved(tree, HOMES),
    "formats": lambda tree: unresolved(tree, EXPORTERS),
    "loaders": lambda tree: unresolved(tree, LOADERS),
    "packaging": packaging,
    "crowded": crowded,
    "long_files": long_files,
    "long_functions": lambda tree: long_functions(tree, TABLES),
}


@pytest.fixture(scope="module")
def package() -> SourceTree:
    return read(ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps(package, rule):
    assert len(package.texts) > 100
    assert package.imports()
    assert RULES[rule](package) == []


PYPROJECT = """[tool.setuptools]
packages = ["relatent", "relatent.benchmarks", "relatent.cli", "relatent.engine", "relatent.kernels", "relatent.systems",
    "relatent.systems.a", "relatent.systems.b"]
[tool.setuptools.package-data]
"relatent.engine" = ["*.txt"]
"""
# a tree that keeps every rule, by all that is allowed
GOOD = {
    "pyproject.toml": PYPROJECT,
    "__init__.py": "from .engine.version import VERSION\nif TYPE_CHECKING:\n    from .systems.a import run\n",
    "kernels/__init__.py": "",
    "kernels/add.py": "import torch\ndef add(): ...\nif TYPE_CHECKING:\n    from .norm import norm\n",
    "kernels/norm.py": "from .add import add\nnorm: int = 0\n",
    "engine/__init__.py": "",
    "engine/notes.txt": "",
    "engine/version.py": "VERSION = '1'\n",
    "engine/loop.py": "from ..kernels import add, norm\nfrom . import version\n",
    "systems/__init__.py": "",
    "systems/a/__init__.py": "from .files import files\n",
    "systems/a/files.py": "from ...engine.loop import add\nfrom ...kernels.norm import norm\n",
    "systems/b/__init__.py": "",
    "cli/__init__.py": "",
    "cli/main.py": "from ..systems.a import run\ndef bench():\n    from ..benchmarks.suite import suite\n",
    "benchmarks/__init__.py": "",
    "benchmarks/suite.py": "import relatent\nfrom relatent.kernels.add import add\n",
    "benchmarks/research/__init__.py": "",
    "benchmarks/research/quality.py": "from ...cli.main import bench\nfrom ..suite import suite\n",
    "tests/test_add.py": "from relatent.cli import main\n",
    "examples/one.py": "import relatent.systems.b\n",
    ".venv/lib/other.py": "from relatent.cli import main\n",
    "build/lib/relatent/kernels/add.py": "from ..cli import main\n",
}
BAD = {
    "upward": (wrong_way, {"engine/x.py": "from ..cli.main import bench\n"}, "engine/x.py:1 imports cli/main.py"),
    "upward, by a submodule": (wrong_way, {"kernels/x.py": "from .. import engine\n"}, "imports engine/__init__.py"),
    "upward, by the public name": (
        wrong_way,
        {"kernels/x.py": "import relatent.engine.loop\n"},
        "kernels/x.py:1 imports engine/loop.py",
    ),
    "upward, inside a function": (
        wrong_way,
        {"systems/a/x.py": "def f():\n    if 1:\n        from ...cli import main\n"},
        "systems/a/x.py:3 imports cli/main.py",
    ),
    "upward, for type checking": (
        wrong_way,
        {"kernels/x.py": "if TYPE_CHECKING:\n    from ..engine.loop import Loop\n"},
        "kernels/x.py:2 imports engine/loop.py",
    ),
    "integrations above systems": (
        wrong_way,
        {"integrations/__init__.py": "", "systems/b/x.py": "from ...integrations import x\n"},
        "systems/b/x.py:1 imports integrations/__init__.py",
    ),
    "the factory above the exporters": (
        wrong_way,
        {"factory/api.py": "from ..exporters import x\n", "exporters/x.py": "from ..factory import api\n"},
        "exporters/x.py:1 imports factory/api.py",
    ),
    "the root": (wrong_way, {"cli/x.py": "from .. import __version__\n"}, "cli/x.py:1 imports __init__.py"),
    "one system imports another": (
        wrong_way,
        {"systems/b/x.py": "from ..a.files import files\n"},
        "systems/b/x.py:1 imports systems/a/files.py",
    ),
    "benchmarks from the engine": (
        wrong_way,
        {"engine/x.py": "def f():\n    from ..benchmarks import suite\n"},
        "engine/x.py:2 imports benchmarks/suite.py",
    ),
    "benchmarks when the command starts": (
        wrong_way,
        {"cli/x.py": "from ..benchmarks.suite import suite\n"},
        "cli/x.py:1 imports benchmarks/suite.py",
    ),
    "benchmarks from the root": (wrong_way, {"x.py": "from .benchmarks import suite\n"}, "x.py:1 imports benchmarks"),
    "research from the suite": (
        wrong_way,
        {"benchmarks/x.py": "def f():\n    from .research.quality import table\n"},
        "benchmarks/x.py:2 imports benchmarks/research/quality.py",
    ),
    "research from the command": (
        wrong_way,
        {"cli/x.py": "def f():\n    from ..benchmarks.research import quality\n"},
        "cli/x.py:2 imports benchmarks/research/quality.py",
    ),
    "a module that does not exist": (
        wrong_way,
        {"cli/x.py": "from ..engine.gone import x\n"},
        "cli/x.py:1 imports engine/gone.py",
    ),
    "a package without a place": (wrong_way, {"tools/x.py": ""}, "tools/ has no place in the order cli → integrations"),
    "two files": (
        circles,
        {"engine/x.py": "def f():\n    from .y import y\n", "engine/y.py": "from . import x\n"},
        "engine/x.py imports engine/y.py imports engine/x.py",
    ),
    "three files": (
        circles,
        {"kernels/add.py": "from ..engine import x\n", "engine/x.py": "from relatent.engine.loop import loop\n"},
        "engine/loop.py imports kernels/add.py imports engine/x.py imports engine/loop.py",
    ),
    "a package's own file": (
        circles,
        {"systems/a/files.py": "from .. import a\n"},
        "systems/a/__init__.py imports systems/a/files.py imports systems/a/__init__.py",
    ),
    "a module that is gone": (
        lambda tree: unresolved(tree, [("engine.version", "VERSION"), ("engine.gone", "VERSION")]),
        {},
        "engine.gone defines no VERSION",
    ),
    "a name that is gone": (
        lambda tree: unresolved(tree, [("kernels.add", "add"), ("kernels.norm", "norm"), ("kernels.add", "subtract")]),
        {},
        "kernels.add defines no subtract",
    ),
    "a package that is not declared": (
        packaging,
        {"engine/losses/__init__.py": ""},
        "relatent.engine.losses is not in pyproject.toml's packages",
    ),
    "a package that does not exist": (
        packaging,
        {"pyproject.toml": PYPROJECT.replace("systems.b", 'systems.b", "relatent.systems.c'), "systems/c.py": ""},
        "pyproject.toml's package relatent.systems.c does not exist",
    ),
    "research in the wheel": (
        packaging,
        {"pyproject.toml": PYPROJECT.replace('"relatent.cli"', '"relatent.cli", "relatent.benchmarks.research"')},
        "pyproject.toml's package relatent.benchmarks.research does not exist",
    ),
    "no __init__": (packaging, {"engine/losses/x.py": ""}, "engine/losses/ has no __init__.py"),
    "no __init__ above": (
        packaging,
        {
            "pyproject.toml": PYPROJECT.replace("systems.b", 'systems.b", "relatent.integrations.one'),
            "integrations/one/__init__.py": "",
        },
        "integrations/ has no __init__.py",
    ),
    "data that is gone": (
        packaging,
        {"pyproject.toml": PYPROJECT.replace("*.txt", "*.j2")},
        "relatent.engine: *.j2 matches no file",
    ),
    "a crowded folder": (
        crowded,
        {f"engine/x{i}.py": "" for i in range(MOST_MODULES - 1)},  # beside loop.py and version.py
        f"engine/ has {MOST_MODULES + 1} modules",
    ),
    "a long file": (
        long_files,
        {"engine/x.py": "x = 1\n" * (MOST_LINES + 1)},
        f"engine/x.py has {MOST_LINES + 1} lines",
    ),
    "a long file that says why too late": (
        long_files,
        {"engine/x.py": "x = 1\n" * MOST_LINES + f"{LONG}one state machine\n"},
        f"engine/x.py has {MOST_LINES + 1} lines",
    ),
    "a long file without a reason": (
        long_files,
        {"engine/x.py": f"{LONG}\n" + "x = 1\n" * MOST_LINES},
        f"engine/x.py has {MOST_LINES + 1} lines",
    ),
    "a long function": (
        lambda tree: long_functions(tree, {}),
        {"engine/x.py": "class X:\n    def f(self):\n" + "        x = 1\n" * MOST_FUNCTION_LINES},
        f"engine/x.py:f has {MOST_FUNCTION_LINES + 1} lines",
    ),
    "a long function with a table's name elsewhere": (
        lambda tree: long_functions(tree, {"engine/y.py:f": "a table"}),
        {
            "engine/x.py": "def f():\n" + "    x = 1\n" * MOST_FUNCTION_LINES,
            "engine/y.py": "def f():\n" + "    x = 1\n" * MOST_FUNCTION_LINES,
        },
        f"engine/x.py:f has {MOST_FUNCTION_LINES + 1} lines",
    ),
    "a table without a reason": (
        lambda tree: long_functions(tree, {"engine/x.py:f": ""}),
        {"engine/x.py": "def f():\n" + "    x = 1\n" * MOST_FUNCTION_LINES},
        f"engine/x.py:f has {MOST_FUNCTION_LINES + 1} lines",
    ),
    "a table that is short by now": (
        lambda tree: long_functions(tree, {"engine/x.py:f": "a table"}),
        {"engine/x.py": "def f():\n    x = 1\n"},
        "engine/x.py:f is no long function any more",
    ),
}


def make_tree(root: Path, *parts: dict[str, str]) -> SourceTree:
    for name, text in {name: text for files in parts for name, text in files.items()}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read(root)


@pytest.mark.parametrize("case", BAD)
def test_a_tree_breaks_the_rule(tmp_path, case):
    rule, files, expected = BAD[case]
    (found,) = rule(make_tree(tmp_path, GOOD, files))
    assert expected in found


@pytest.mark.parametrize("rule", [wrong_way, circles, packaging, crowded, long_files])
def test_a_tree_keeps_the_rule(tmp_path, rule):
    long = f'"""A title."""\n\n{LONG}one state machine\n' + "x = 1\n" * MOST_LINES
    full = {f"engine/x{i}.py": "" for i in range(MOST_MODULES - 3)}  # beside loop.py, version.py and long.py
    assert rule(make_tree(tmp_path, GOOD, full, {"engine/long.py": long})) == []


def test_docstring_and_argument_list_are_not_counted(tmp_path):
    arguments = "".join(f"    argument_{i},\n" for i in range(50))
    docstring = '    """' + "A line.\n" * 50 + '    """\n'
    body = "    x = 1\n" * (MOST_FUNCTION_LINES - 1)
    table = "def table():\n" + "    x = 1\n" * 100
    tree = make_tree(tmp_path, {"engine/x.py": f"def f(\n{arguments}):\n{docstring}{body}", "cli/x.py": table})
    assert long_functions(tree, {"cli/x.py:table": "the arguments of a command"}) == []
    assert max(code_lines(node) for path, node in tree.functions() if path == "engine/x.py") == MOST_FUNCTION_LINES
