"""Verification that the plan and the ledger parse and are consistent with each other."""

from typing import Any

from ...engine.errors import DatasetError
from ..state.ledger import REMOVE
from ..state.plan import LOST
from ..state.run_folder import RunFolder
from .findings import Damage

REMOVE_AND_RESUME = (
    "remove that line: what it tells of is then found unfinished, and `relatent resume {out}` does it again"
)


def check_plan_and_ledger(folder: RunFolder) -> Damage | None:
    """Return the first damage in the plan or the ledger; None if there is none, or if the run has no plan yet."""
    if not folder.planned:
        if folder.ledger.path.exists():
            return Damage(folder.out / "plan.jsonl", "is missing", LOST)
        return None
    try:
        plan = folder.plan
        count, names = 0, set[str]()
        for count, row in enumerate(plan.all_rows(), 1):  # noqa: B007 - the number of rows is used after the loop
            names.add(row.source.name)
        if count != plan.total or len(names) != plan.total:
            raise DatasetError(
                f"expected {plan.total} pictures of different names, found {count}, {len(names)} different"
            )
    except (DatasetError, ValueError, KeyError, TypeError, OSError) as error:
        what = str(error).removeprefix(f"{folder.out / 'plan.jsonl'} ").removesuffix(f"; {LOST}")
        return Damage(
            folder.out / "plan.jsonl", what if isinstance(error, DatasetError) else f"is damaged: {error!r}", LOST
        )
    path, remedy = folder.ledger.path, REMOVE_AND_RESUME.format(out=folder.out)
    whole: dict[int, bool] = {}
    number = 0
    try:
        for number, line in enumerate(folder.ledger.lines(), 1):
            fault = _fault(folder, line, names, whole)
            if fault:
                return Damage(path, f"line {number}: {fault}", remedy)
        folder.ledger.shards()  # raises for values of other types
    except DatasetError as error:
        return Damage(path, str(error).removeprefix(f"{path} ").removesuffix(f"; {REMOVE}"), remedy)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        return Damage(path, f"line {number}: not of this schema: {error!r}", remedy)
    return None


def _fault(folder: RunFolder, line: dict[str, Any], names: set[str], whole: dict[int, bool]) -> str | None:
    """Return what is wrong with one line of the ledger; None if nothing is.

    `whole` is updated with each shard's state.
    """
    kind = line["kind"]
    if kind == "export":
        _ = line["format"], line["path"], line["sha256"], line["bytes"]
        return None
    if kind not in ("shard", "failure", "dropped"):
        return f"unknown kind {kind!r}"
    shard = line["shard" if kind == "failure" else "number"]
    if type(shard) is not int or not 0 <= shard < len(folder.plan):
        return f"shard {shard!r} of {len(folder.plan)}"
    if kind == "failure":
        return None if line["name"] in names else f"picture {line['name']!r} is not in the plan"
    if kind == "dropped":
        whole.pop(shard, None)
        return None
    if whole.get(shard) and line["whole"]:
        return f"shard {shard} is finished a second time"
    whole[shard] = line["whole"]
    if line["file"] not in (None, folder.shard_path(shard).name):
        return f"shard {shard} in a file of another name: {line['file']!r}"
    if (line["file"] is None) != (line["sha256"] is None) or not 0 <= line["images"] <= folder.plan.shard_size:
        return f"shard {shard}: {line['images']} pictures, file {line['file']!r}, SHA-256 {line['sha256']!r}"
    return None
