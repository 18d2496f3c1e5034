"""Both trainings: they learn, and one that is stopped ends as one that is not."""

import json

import pytest
import torch
from relatent.engine.errors import RunStoppedError, UsageError
from relatent.engine.vector_quantiser import VectorQuantiser
from relatent.systems.spectrogram.vq import run
from relatent.systems.spectrogram.vq.model_folder import load_vq_model
from relatent.systems.spectrogram.vq.run import train_vq
from relatent.systems.spectrogram.vq.sampler import sample_codes
from relatent.systems.spectrogram.vq.settings import TransformerSettings
from relatent.systems.spectrogram.vq.training import Evaluation, Training
from tiny_vq import TINY_TRANSFORMER, TINY_VQVAE


def weights(folder) -> dict[str, torch.Tensor]:
    model = load_vq_model(folder)
    return {**model.vqvae.state_dict(), **model.transformer.state_dict()}


def test_records_say_what_was_trained(vq_dir):
    records = load_vq_model(vq_dir).records
    first, second = records["vqvae"], records["transformer"]
    assert first["simulated"] is second["simulated"] is True
    assert first["pictures"] == {"training": 16, "held_out": 8}
    assert first["steps"] == second["steps"] == 8
    assert first["codes_of_a_picture"] == [4, 4]
    assert 1 <= first["perplexity"] <= first["codes_used"] <= 128
    assert first["processor_seconds"] > 0 < second["processor_seconds"]
    assert second["settings"]["num_users"] == 2
    assert 0 < second["cross_entropy"] < 6


@pytest.mark.parametrize("stopped", [("vqvae", 5), ("transformer", 5)])
def test_a_training_that_is_stopped_ends_as_one_that_is_not(spectrograms, vq_dir, tmp_path, monkeypatch, stopped):
    """Codes that are hardly used are replaced at random, and there is dropout: all of that must be drawn again."""
    update = Training._update

    def stop(self):
        if (self.name, self.step) == stopped:
            raise KeyboardInterrupt
        torch.rand(3)  # what else draws from torch's random numbers must not matter
        return update(self)

    monkeypatch.setattr(Training, "_update", stop)
    arguments = (spectrograms, tmp_path, "small", TINY_VQVAE, TINY_TRANSFORMER)
    with pytest.raises(KeyboardInterrupt):
        train_vq(*arguments, progress=lambda line: None)
    monkeypatch.setattr(Training, "_update", update)
    draw, draws = VectorQuantiser._draw, []
    monkeypatch.setattr(VectorQuantiser, "_draw", lambda *given: draws.append(1) or draw(*given))
    lines: list[str] = []
    train_vq(*arguments, progress=lines.append)
    assert f"{stopped[0]}: going on at step 4" in lines
    assert draws or stopped[0] != "vqvae"  # codes were replaced after that step
    whole, found = weights(vq_dir), weights(tmp_path)
    assert all(torch.equal(value, found[name]) for name, value in whole.items())


def test_other_settings_need_another_folder(spectrograms, vq_dir):
    with pytest.raises(UsageError, match=r"vqvae_checkpoint.pt is of other settings \(learning_rate\)"):
        train_vq(spectrograms, vq_dir, "small", {**TINY_VQVAE, "learning_rate": 0.5}, TINY_TRANSFORMER)


def test_users_are_learned(tmp_path):
    """Each user's pictures are one code of their own: the transformer draws it."""
    settings = TransformerSettings(
        **{**TINY_TRANSFORMER, "max_steps": 60, "eval_every": 60, "save_every": 60, "dropout": 0.0},
        learning_rate=1e-2,
        num_users=2,
    )
    vqvae, _ = run.recipe_settings("small", TINY_VQVAE)
    model = run.build_transformer(settings, vqvae)
    users = torch.arange(8) % 2
    codes = (3 + 20 * users)[:, None].expand(8, 16)

    def loss(step):
        dropped = torch.rand(8) < 0.1
        logits = model(codes[:, :-1], users, dropped).flatten(0, 1)
        return {"loss": torch.nn.functional.cross_entropy(logits, codes.flatten())}

    def evaluate():
        return Evaluation(float(loss(0)["loss"]), {})

    Training("transformer", model, settings, "", tmp_path, loss, evaluate, lambda line: None).run()
    drawn = sample_codes(model, torch.tensor([0, 1]), [0, 1], 1.5)
    assert (drawn == torch.tensor([3, 23])[:, None]).float().mean() > 0.9


def test_a_training_that_diverges_is_stopped(tmp_path):
    settings = TransformerSettings(**TINY_TRANSFORMER)
    network = torch.nn.Linear(1, 1)

    def loss(step):
        return {"loss": network.weight.sum() * float("nan")}

    training = Training("vqvae", network, settings, "", tmp_path, loss, lambda: Evaluation(0.0, {}), lambda line: None)
    with pytest.raises(RunStoppedError, match="not finite at step 0"):
        training.run()


def test_damaged_models_are_refused(vq_dir, tmp_path):
    with pytest.raises(UsageError, match="no whole model of train_vq"):
        load_vq_model(tmp_path)
    for path in vq_dir.glob("*.json"):
        (tmp_path / path.name).write_text(path.read_text())
    for name in ("vqvae", "transformer"):
        (tmp_path / f"{name}.safetensors").write_bytes(b"no weights")
    with pytest.raises(UsageError, match="no whole model of train_vq"):
        load_vq_model(tmp_path)
    (tmp_path / "vqvae.json").write_text(json.dumps([]))
    with pytest.raises(UsageError, match="no whole model of train_vq"):
        load_vq_model(tmp_path)
