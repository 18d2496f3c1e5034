"""The command as a user runs it: a process, its exit status, its two streams."""

import subprocess
import sys

import pytest
import torch
from command_line import relatent_process
from relatent.cli.main import build_parser, main
from relatent.cli.text import stopped_line


def test_help_and_import_load_nothing_heavy():
    code = (
        "import sys, relatent; from relatent.cli.main import build_parser; build_parser().format_help(); "
        "heavy = {'torch', 'numpy', 'diffusers', 'h5py', 'PIL', 'matplotlib'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    done = relatent_process("--help")
    assert done.returncode == 0
    for command in ("demo", "optimize", "info", "report", "verify", "export", "export-onnx", "models", "doctor"):
        assert command in done.stdout
    assert "--preset draft|fast|balanced|train|best|original" in relatent_process("optimize", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["optimize", "{in}", "{out}", "--vae", "nothing"], "unknown autoencoder 'nothing'"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--loss", "mse + x"], "cannot read 'x'"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--batch-size", "many"], "whole number or auto"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--iterations", "0"], "at least 1"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--device", "cuda:77"], "use auto or cpu"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--config", "absent.toml"], "cannot read the configuration"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--format", "zip"], "unknown format 'zip'"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--size", "100000000000"], "at most 65536 pixels a side"),
        (["optimize", "absent", "{out}", "--vae", "tiny"], "no such image"),
        (["optimize", "{in}", "{out}", "--vae", "tiny", "--preset", "slow"], "expected one of draft, fast, balanced"),
        (
            ["optimize", "{in}", "{out}", "--vae", "tiny", "--target-psnr", "0"],
            "target_psnr: expected a number above 0",
        ),
        (["demo", "{out}", "--iterations", "0"], "at least 1"),
        (["demo", "{out}", "--preset", "slow"], "expected one of draft, fast, balanced"),
        (["info", "absent"], "holds no run"),
        (["export", "absent", "--to", "pt"], "holds no run"),
        (["export", "absent", "--to", "zip"], "unknown format 'zip'"),
        (["export-onnx", "--vae", "tiny", "a.bin"], "ends in .onnx"),
    ],
)
def test_usage_errors_are_one_line_and_status_2(photographs, tmp_path, capsys, arguments, words):
    out = tmp_path / "out"
    given = [argument.replace("{in}", str(photographs)).replace("{out}", str(out)) for argument in arguments]
    assert main(given) == 2
    streams = capsys.readouterr()
    assert streams.out == ""
    assert words in streams.err
    assert streams.err.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "command", "words"),
    [
        ([], "", "the following arguments are required: COMMAND"),
        (["nothing"], "", "invalid choice: 'nothing'"),
        (["optimize"], " optimize", "the following arguments are required: INPUT, OUT"),
        (["optimize", "a", "b", "--iterations", "1.5"], " optimize", "argument --iterations: invalid int value: '1.5'"),
        (["optimize", "a", "b", "--seed", "99999999999999999999999"], " optimize", "from 0 to 9223372036854775807"),
        (["optimize", "a", "b", "--seed", "-1"], " optimize", "found '-1'"),
        (["codec", "compress", "a", "b", "--refine", "x"], " codec compress", "argument --refine: invalid int value"),
        (["anomaly", "nothing"], " anomaly", "invalid choice: 'nothing'"),
        (["spectrogram", "train", "a\nb", "--batch-size", "x\ny"], " spectrogram train", "error: "),
    ],
)
def test_argparse_errors_are_one_line_and_status_2(arguments, command, words):
    done = relatent_process(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr
    assert done.stderr.startswith(f"relatent{command}: error: ")
    assert done.stderr.endswith(f"; see relatent{command} --help\n")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [0, 2**63 - 1])
def test_the_least_and_the_largest_seed_are_taken(number):
    assert build_parser().parse_args(["optimize", "a", "b", "--seed", str(number)]).seed == number
    assert torch.Generator().manual_seed(number).initial_seed() == number


def test_the_console_script_is_the_function():
    from relatent import cli

    assert cli.main is main
    assert relatent_process("--version").stdout.startswith("relatent ")


def test_a_stopped_run_says_once_how_to_go_on(tmp_path):
    assert stopped_line("stopped", None) == "stopped"
    assert stopped_line("stopped", tmp_path) == "stopped"
    (tmp_path / "run.json").write_text("{}")
    hint = f"`relatent resume {tmp_path}` goes on"
    assert stopped_line("stopped", tmp_path) == f"stopped; what was finished is kept, and {hint}"
    assert stopped_line(f"stopped; {hint}", tmp_path) == f"stopped; {hint}"
