"""The tables of the page and of the README are those of the results that are kept."""

import json

from relatent.benchmarks.gpu.page import PAGE, attention_table, iteration_table
from relatent.benchmarks.results import FOLDER, README


def cells(name):
    return json.loads((FOLDER / "gpu-nvidia-h200" / f"{name}.json").read_text(encoding="utf-8"))["cells"]


def test_the_pages_tables_are_the_results():
    page = PAGE.read_text(encoding="utf-8")
    assert iteration_table(cells("iteration")) in page
    assert attention_table(cells("attention")) in page
    assert iteration_table(cells("iteration"), brief=True) in README.read_text(encoding="utf-8")


def test_what_failed_is_not_in_the_tables():
    assert iteration_table({"512²": {"error": "out of memory"}}).count("\n") == 1
    assert attention_table({"batch 8": {"error": "out of memory"}}).count("\n") == 1
