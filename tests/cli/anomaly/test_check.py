"""anomaly check: a line for each step, exit status 0 only where all hold."""

from command_line import strict
from relatent.cli.main import main
from relatent.systems.anomaly import installation_check
from relatent.systems.anomaly.installation_check import STEPS


def test_all_hold(capsys):
    assert main(["anomaly", "check"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines] == [["ok", name] for name in STEPS]
    assert "11602784 parameters" in lines[3]


def test_one_does_not(capsys, monkeypatch):
    monkeypatch.setattr(installation_check, "PARAMETERS", 1)
    assert main(["anomaly", "check", "--json"]) == 1
    found = strict(capsys.readouterr().out)
    assert found["ok"] is False
    assert [step["name"] for step in found["steps"] if not step["ok"]] == ["model"]
    assert all(step["seconds"] >= 0 and step["detail"] for step in found["steps"])
