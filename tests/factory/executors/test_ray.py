"""Runs with `--ray`, on two workers of a cluster on this machine, which is started once. They are killed for real."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest
from helpers import small_kl
from relatent import resume_directory
from relatent.engine.errors import UsageError
from relatent.factory.executors.ray import ENVIRONMENT, check_ray, on_ray
from runs import (
    OPTIONS,
    check_complete,
    check_gone,
    descendants,
    make_pictures,
    only_line,
    optimize,
    shard_lines,
    start,
    wait_for,
)

pytest.importorskip("ray")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    return make_pictures(tmp_path_factory.mktemp("in") / "pictures")


@pytest.fixture(scope="module")
def single(one_thread, pictures, vae_folder, tmp_path_factory):
    """The run in one process."""
    out = tmp_path_factory.mktemp("single") / "out"
    optimize(pictures, out, vae_folder, workers=0)
    return out


@pytest.fixture(scope="module")
def cluster(one_thread):
    """Its address; this process is connected to it."""
    os.environ.update(ENVIRONMENT)
    import ray

    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=128 * 2**20)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


def at_work():
    """Ray names its processes after the task that they are at."""
    return [pid for pid, text in descendants(os.getpid()).items() if text.startswith("ray::process_shard")]


@pytest.mark.slow
def test_a_killed_worker_is_made_up_for(cluster, pictures, single, vae_folder, tmp_path):
    out = tmp_path / "out"
    process = start("optimize", pictures, out, "--vae", vae_folder, *OPTIONS, "--ray", cluster, "--json")
    wait_for(lambda: shard_lines(out), process)
    os.kill(wait_for(at_work, process)[0], signal.SIGKILL)
    stdout, stderr = process.communicate(timeout=200)
    assert process.returncode == 0, stderr
    said = [line for line in stderr.splitlines() if "images/s" not in line]
    assert "(raylet)" in said[0]
    # Ray breaks the message into lines as it likes, and at times knows of the failed task before its cause
    assert any(words in " ".join(said) for words in ("A worker died or was killed", "Task process_shard failed"))
    assert len(said) <= 10, stderr  # Ray's one message
    run = json.loads(stdout)
    assert run == json.loads((out / "run.json").read_text())
    assert run["engine"]["processes"] >= 2
    assert 0 <= run["engine"]["idle_share"] < 1
    assert run["seconds"]["optimize"] > 0
    check_complete(out, single)


@pytest.mark.slow
def test_a_killed_driver_costs_the_shards_in_flight(cluster, pictures, single, vae_folder, tmp_path):
    out = tmp_path / "out"
    process = start("optimize", pictures, out, "--vae", vae_folder, *OPTIONS, "--ray", cluster)
    wait_for(lambda: len(shard_lines(out)) >= 2, process)
    workers = at_work()
    process.kill()
    process.communicate()
    check_gone(workers)
    finished = {line["file"]: (out / "shards" / line["file"]).stat().st_mtime_ns for line in shard_lines(out)}
    resume_directory(out, ray=cluster)
    check_complete(out, single)
    assert {name: (out / "shards" / name).stat().st_mtime_ns for name in finished} == finished


@pytest.mark.slow
def test_ctrl_c_on_a_cluster_of_the_run_itself(pictures, vae_folder, tmp_path):
    out = tmp_path / "out"
    process = start("optimize", pictures, out, "--vae", vae_folder, *OPTIONS, "--ray")
    wait_for(lambda: shard_lines(out), process)
    everyone = descendants(process.pid)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=200)
    assert process.returncode == 130, stderr
    line = only_line(stderr)
    assert line == f"relatent: interrupted; what was finished is kept, and `relatent resume {out}` goes on"
    assert json.loads((out / "run.json").read_text())["status"] == "interrupted"
    check_gone(everyone)


@pytest.mark.slow  # starts Ray
def test_errors_of_a_task_come_out_as_themselves(cluster, single, tmp_path):
    """The autoencoder is another; then a node does not see the run."""
    out = tmp_path / "out"
    shutil.copytree(single, out)
    record = json.loads((out / "run.json").read_text())
    small_kl(seed=1).save_pretrained(tmp_path / "other")
    record["settings"]["vae"] = str(tmp_path / "other")
    (out / "run.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match="the autoencoder is another than that of") as raised:
        list(on_ray(out, [0], "local", 0, False))
    assert "\n" not in str(raised.value)
    with pytest.raises(UsageError, match=f"not seen from {socket.gethostname()}"):
        list(on_ray(tmp_path / "nowhere", [0], "local", 0, False))


@pytest.mark.parametrize("address", ["127.0.0.1:1", "nonsense", "no.such.host.invalid:6379", "127.0.0.1:x"])
def test_nothing_at_the_address(address, pictures, vae_folder, tmp_path):
    begin = time.monotonic()
    with pytest.raises(UsageError, match=f"no Ray cluster at '{address}': .*expected HOST:PORT"):
        optimize(pictures, tmp_path / "out", vae_folder, ray=address)
    assert time.monotonic() - begin < 20
    assert not (tmp_path / "out").exists()


def test_the_environments_address_counts_for_auto(monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(UsageError, match=r"no Ray cluster at '127\.0\.0\.1:1'"):
        check_ray("auto")


def test_without_ray(pictures, vae_folder, tmp_path):
    code = "import sys; sys.modules['ray'] = None; from relatent.cli.main import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["optimize", pictures, tmp_path / "out", "--vae", vae_folder, *OPTIONS, "--ray"]
    done = subprocess.run([sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == 'relatent: --ray needs Ray: pip install "relatent[ray]"\n'
    assert not (tmp_path / "out").exists()
