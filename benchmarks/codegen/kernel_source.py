"""What a Triton kernel does with its pointers, from its source as the compiler writes it."""

import ast
from dataclasses import dataclass, field
from typing import Any


@dataclass
class KernelSource:
    """The facts about one kernel; names are those of its arguments."""

    name: str
    pointers: list[str]  # in the order of the arguments
    generated: bool  # by the compiler, not written by the project
    reads: set[str] = field(default_factory=set)
    writes: set[str] = field(default_factory=set)
    repeated: list[set[str]] = field(default_factory=list)  # pointers that get the same values
    copies: bool = False  # it moves values, or converts their type, and computes nothing


def read_kernel(name: str, source: str) -> KernelSource:
    """Return the facts about the kernel `name` in a module's source, as Inductor passes it to Triton.

    A pointer that is handed to another function counts as read.
    """
    tree = ast.parse(source)
    function = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == name)
    decorators = [node for node in function.decorator_list if isinstance(node, ast.Call)]
    meta = next(word.value for node in decorators for word in node.keywords if word.arg == "triton_meta")
    signature: dict[str, str] = _entry(meta, "signature")
    constants: dict[str, Any] = _entry(meta, "constants")
    found = KernelSource(
        name,
        pointers=[argument for argument, kind in signature.items() if kind.startswith("*")],
        generated=not any(word.arg == "custom_kernel" for node in decorators for word in node.keywords),
    )
    body = _Chosen(constants).visit(function)
    stored: dict[str, set[str]] = {}
    for node in ast.walk(body):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        for position, argument in enumerate(node.args):
            used = _names(argument) & set(found.pointers)
            if called == "tl.store" and position == 0:
                found.writes |= used
                stored.setdefault(ast.unparse(node.args[1]), set()).update(used)
            else:
                found.reads |= used
                found.writes |= used if called.startswith("tl.atomic") else set()
    found.repeated = [used for used in stored.values() if len(used) > 1]
    found.copies = found.generated and _only_moves(body)
    return found


def _entry(node: ast.expr, key: str) -> dict[str, Any]:
    """The literal dictionary under `key` of a dictionary that also has values that are not literals."""
    assert isinstance(node, ast.Dict)
    for name, value in zip(node.keys, node.values, strict=True):
        if isinstance(name, ast.Constant) and name.value == key:
            return dict(ast.literal_eval(value))
    return {}


class _Chosen(ast.NodeTransformer):
    """Leaves out the branches that a kernel's constants rule out."""

    def __init__(self, constants: dict[str, Any]):
        self.constants = constants

    def _value(self, test: ast.expr) -> Any:
        try:
            return eval(compile(ast.Expression(test), "kernel", "eval"), {"__builtins__": {}}, dict(self.constants))
        except Exception:  # it depends on more than the constants
            return None

    def visit_If(self, node: ast.If) -> Any:
        value = self._value(node.test)
        if value is not None:
            body = (node.body if value else node.orelse) or [ast.Pass()]
            node = ast.If(ast.Constant(True), body, [])
        return self.generic_visit(node)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        value = self._value(node.test)
        return self.generic_visit(node) if value is None else self.visit(node.body if value else node.orelse)


def _names(node: ast.AST) -> set[str]:
    """The names in an argument, without those in calls within it, which are looked at themselves, and of types."""
    if isinstance(node, ast.Name):
        return {node.id}
    if isinstance(node, ast.Call) or (isinstance(node, ast.Attribute) and node.attr == "dtype"):
        return set()
    return set().union(*(_names(child) for child in ast.iter_child_nodes(node)))


def _only_moves(function: ast.AST) -> bool:
    """Whether each value that is stored is one that was loaded, at most converted."""
    values: dict[str, ast.expr] = {}
    stores = []
    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            values[node.targets[0].id] = node.value
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "tl.store":
            stores.append(node.args[1])

    def moved(value: ast.expr) -> bool:
        if isinstance(value, ast.Name):
            return value.id in values and moved(values[value.id])
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            if value.func.attr == "to":
                return moved(value.func.value)
            return ast.unparse(value.func) == "tl.load"
        return False

    return bool(stores) and all(moved(value) for value in stores)
