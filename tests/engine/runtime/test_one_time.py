"""Measurements that are made once per decoder are announced, and shown by who listens."""

import relatent
import torch
from helpers import small_kl
from relatent.engine.calibration.preconditioner import LATENTS, PROBES, whitening_kernel
from relatent.engine.runtime.one_time import listening, one_time
from relatent.factory.state.progress import Progress


def test_the_curvature_is_announced_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    seen = []
    for _ in range(2):
        vae = relatent.load_autoencoder(small_kl(), name="small", device="cpu")
        with listening(lambda what, fraction: seen.append((what, fraction))):
            whitening_kernel(vae, (4, 8, 8))
    assert {what for what, _ in seen} == {"measuring the curvature of small"}
    fractions = [fraction for _, fraction in seen]
    assert fractions == [*torch.linspace(0, 1, LATENTS * PROBES + 1).tolist(), 1.0], "the second time it is on disk"


def test_nobody_needs_to_listen():
    with one_time("measuring", 1) as advance:
        advance()


def test_a_long_step_is_a_line_where_there_is_no_terminal(monkeypatch, capsys):
    for wait, lines in ((-1.0, ["measuring, once: 0 %"]), (60.0, [])):
        monkeypatch.setattr(Progress, "SECONDS_BEFORE_A_STEP_SHOWS", wait)
        with Progress(1) as bar, listening(bar.one_time), one_time("measuring", 2) as advance:
            advance()
            advance()
        assert capsys.readouterr().err.splitlines() == lines
