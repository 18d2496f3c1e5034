"""Runs with `--devices`: several processes over one plan, on CPU. They are killed and interrupted for real."""

import json
import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from helpers import small_kl
from relatent import resume_directory
from relatent.engine.errors import RunStoppedError, UsageError
from relatent.factory.executors.base import ExecutionOptions
from relatent.factory.executors.multiprocess import in_processes, resolve_devices
from runs import (
    ITERATIONS,
    OPTIONS,
    check_complete,
    check_gone,
    children,
    descendants,
    make_pictures,
    only_line,
    optimize,
    shard_lines,
    start,
    wait_for,
)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("in") / "pictures")


@pytest.fixture(scope="module")
def single(one_thread, pictures, vae_folder, tmp_path_factory):
    """The run in one process."""
    out = tmp_path_factory.mktemp("single") / "out"
    assert optimize(pictures, out, vae_folder, workers=0)["engine"]["processes"] == 1
    return out


def workers_of(pid):
    return [child for child, text in children(pid).items() if "spawn_main" in text]


@pytest.mark.slow
def test_two_processes_from_a_script_without_a_guard(pictures, single, vae_folder, tmp_path):
    out, script = tmp_path / "out", tmp_path / "script.py"
    script.write_text(
        "import relatent\n"
        f"config = relatent.preset(None, iterations={ITERATIONS})\n"
        f"relatent.optimize_directory({str(pictures)!r}, {str(out)!r}, {str(vae_folder)!r}, config=config, size=32,\n"
        "    shard_size=2, device='cpu', devices=2)\n"
        "print('once')\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout == "once\n"
    assert done.stderr == ""
    check_complete(out, single)
    run = json.loads((out / "run.json").read_text())
    assert run["engine"]["processes"] == 2
    assert 0 <= run["engine"]["idle_share"] < 1
    assert run["engine"]["batch_size"] == 1
    assert all(run["seconds"][phase] > 0 for phase in ("load", "encode", "optimize", "write", "total"))
    expected = json.loads((single / "run.json").read_text())
    for key in ("counts", "statistics", "latents", "failures", "precision"):
        assert run[key] == expected[key]


@pytest.mark.slow
def test_a_killed_process_ends_the_run_in_one_line(pictures, single, vae_folder, tmp_path):
    out = tmp_path / "out"
    process = start("optimize", pictures, out, "--vae", vae_folder, *OPTIONS, "--devices", "2")
    wait_for(lambda: shard_lines(out), process)
    everyone = descendants(process.pid)
    os.kill(workers_of(process.pid)[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 1, stderr
    assert stdout == ""
    line = only_line(stderr)
    assert line.startswith("relatent: one of 2 processes died")
    assert line.endswith(f"`relatent resume {out}` goes on")
    check_gone(everyone)
    assert json.loads((out / "run.json").read_text())["status"] == "failed"
    finished = {line["file"]: (out / "shards" / line["file"]).stat().st_mtime_ns for line in shard_lines(out)}
    assert finished
    resume_directory(out, workers=0)
    check_complete(out, single)
    assert {name: (out / "shards" / name).stat().st_mtime_ns for name in finished} == finished


@pytest.mark.slow
@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_the_parents_end_is_the_processes_end(pictures, single, vae_folder, tmp_path, how):
    out = tmp_path / "out"
    process = start("optimize", pictures, out, "--vae", vae_folder, *OPTIONS, "--devices", "2", "--workers", "1")
    wait_for(lambda: shard_lines(out), process)
    everyone = descendants(process.pid)
    assert len(workers_of(process.pid)) == 2
    if how == "killed":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    check_gone(everyone)
    status = json.loads((out / "run.json").read_text())["status"]
    if how == "killed":
        assert (process.returncode, status) == (-signal.SIGKILL, "running")
    else:
        assert (process.returncode, status) == (130, "interrupted"), stderr
        line = only_line(stderr)
        assert line == f"relatent: interrupted; what was finished is kept, and `relatent resume {out}` goes on"
        assert not list((out / "shards").glob(".*"))
    begun = len(shard_lines(out))
    resume_directory(out, workers=0)
    assert begun >= 1
    check_complete(out, single)


@pytest.mark.slow
def test_ctrl_c_while_the_processes_start(pictures, vae_folder, tmp_path):
    process = start("optimize", pictures, tmp_path / "out", "--vae", vae_folder, *OPTIONS, "--devices", "2")
    everyone = wait_for(lambda: workers_of(process.pid), process)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in stderr
    assert len(stderr.splitlines()) == 1
    check_gone(everyone)


def test_an_error_of_the_run_comes_out_of_a_process_as_itself(single, pictures, tmp_path):
    """Here the autoencoder is not that which the run began with."""
    out = tmp_path / "out"
    shutil.copytree(single, out)
    record = json.loads((out / "run.json").read_text())
    small_kl(seed=1).save_pretrained(tmp_path / "other")
    record["settings"]["vae"] = str(tmp_path / "other")
    (out / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="the autoencoder is another than that of") as raised:
        list(in_processes(out, [0, 1], ["cpu"], 0))
    assert "\n" not in str(raised.value)


@pytest.mark.slow
def test_max_failures_counts_over_all_processes(pictures, vae_folder, tmp_path):
    source = tmp_path / "in"
    shutil.copytree(pictures, source)
    for name in ("00.png", "02.png", "04.png", "06.png"):
        (source / name).write_text("no picture")
    with pytest.raises(RunStoppedError, match="2 pictures failed, more than --max-failures 1"):
        optimize(source, tmp_path / "out", vae_folder, devices=2, max_failures=1)
    run = json.loads((tmp_path / "out" / "run.json").read_text())
    assert run["status"] == "failed"
    assert run["counts"]["failed"] == 2
    assert not workers_of(os.getpid())


@pytest.mark.parametrize("devices", [0, -1, "all", 1.5])
def test_what_is_no_number_of_devices(devices):
    with pytest.raises(UsageError, match="devices: expected a whole number of at least 1, or auto"):
        ExecutionOptions(devices=devices)


def test_devices_by_name():
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert resolve_devices("auto", cpu) == ["cpu"]
    assert resolve_devices(3, cpu) == ["cpu"] * 3
    count = torch.cuda.device_count()
    with pytest.raises(UsageError, match=f"{count + 1} asked for, {count} of cuda there"):
        resolve_devices(count + 1, cuda)
    assert resolve_devices("auto", cuda) == [f"cuda:{index}" for index in range(count)]
    with pytest.raises(UsageError, match="exclude each other"):
        ExecutionOptions(devices=2, ray="local")
