"""The ablation trains each δ and each distance, beside no penalty."""

import argparse
import json

import pytest
from relatent.engine.errors import UsageError
from relatent.systems.codec.training.ablation import RESULT, run, table
from relatent.systems.codec.training.options import add_training_options


def parsed(*arguments: object) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_training_options(parser)
    return parser.parse_args([str(each) for each in arguments])


def test_every_variant_is_trained_once(pictures, tmp_path, capsys):
    common = ["--train_dataset", pictures, "--save_path", tmp_path / "out", "--batch-size", 6, "--patch-size", 64]
    options = parsed(
        *common, "--test_dataset", pictures / "0.png", "--epochs", 4, "--phase2-start", 1, "--learning-rate", 5e-4
    )
    results = run(options)
    assert list(results) == ["no_penalty", "delta0.05", "delta0.1", "delta0.15", "l1", "cosine"]
    assert len({result["test/loss"] for result in results.values()}) == 6
    assert json.loads((tmp_path / "out" / RESULT).read_text()) == results
    assert len(list(table(results))) == 8
    capsys.readouterr()
    assert run(options) == results
    assert "epoch 0" not in capsys.readouterr().err  # they are finished


def test_what_could_show_nothing_is_refused(pictures, tmp_path):
    common = ["--train_dataset", pictures, "--save_path", tmp_path]
    with pytest.raises(UsageError, match="--test_dataset"):
        run(parsed(*common))
    with pytest.raises(UsageError, match="begins at epoch 100"):
        run(parsed(*common, "--test_dataset", pictures, "--epochs", 100))
