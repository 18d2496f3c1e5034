"""How a benchmark ends."""

import pytest
from relatent.benchmarks.results import run_main
from relatent.engine.errors import UsageError


@pytest.mark.parametrize(("error", "line"), [(UsageError("no photographs in it"), "no photographs in it\n"), (FileNotFoundError("gone"), "gone\n")])  # fmt: skip
def test_what_does_not_fit_is_one_line(error, line, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as ended:
        run_main(main)
    assert ended.value.code == 2
    assert capsys.readouterr().err == line


def test_the_status_is_that_of_main():
    with pytest.raises(SystemExit) as ended:
        run_main(lambda: 1)
    assert ended.value.code == 1
