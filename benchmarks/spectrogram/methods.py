"""Latent diffusion beside a VQ-VAE with a transformer: the same simulated walkers, the same validators.

    python -m relatent.benchmarks.spectrogram.methods WORK [--data_dir DIR] [--vae_dir DIR] [--diffusion_dir DIR] [--vq_dir DIR]

Both methods train on the same recordings with the recipe `small` for the steps that the options say, generate as many pictures of each
user, and are judged by the same trained validators. Each training and each generation runs in a process of its own, whose seconds and
memory count. A training that is given is not made, and what it cost is told only where its records say so. What is finished in
WORK is not made again. Writes benchmarks/results/spectrogram_methods-*.json and the table of docs/spectrogram_methods.md.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ...engine.runtime.atomic import write_json
from ...exporters.summaries.markdown import markdown_table
from ...systems.spectrogram.data.simulate import simulate
from ...systems.spectrogram.data.spectrogram_folder import read_spectrograms
from ...systems.spectrogram.diffusion.generate import GenerationSettings, generate
from ...systems.spectrogram.diffusion.model_folder import read_model_record
from ...systems.spectrogram.diffusion.run import train_on_spectrograms
from ...systems.spectrogram.vae.model import load_vae
from ...systems.spectrogram.vae.settings import recipe_settings
from ...systems.spectrogram.vae.training import train_vae
from ...systems.spectrogram.validation.fitting import FitSettings
from ...systems.spectrogram.validation.pipeline import ValidationSettings, validate
from ...systems.spectrogram.validation.scores import figure_at
from ...systems.spectrogram.vq.generate import VQGenerationSettings, generate_vq
from ...systems.spectrogram.vq.model_folder import load_vq_model
from ...systems.spectrogram.vq.run import train_vq
from ..anomaly.step import peak_memory
from ..results import FOLDER, command_line, replace_table, run_main, write_result

PAGE = Path(__file__).parents[2] / "docs" / "spectrogram_methods.md"
DIFFUSION, VQ = "latent diffusion", "VQ-VAE and transformer"
METHODS = {"diffusion": DIFFUSION, "vq": VQ}
LEAST = "least_user"
EVERY = 100  # updates between evaluations, at most
# label, path in a validation's set, how it is written
SCORES = (
    ("classified as their user", "recognition.accuracy", "{:.1%}"),
    ("the same, of the user where it is least", LEAST, "{:.1%}"),
    ("one against the rest: recognised", "per_user.recognised", "{:.1%}"),
    ("one against the rest: others rejected", "per_user.rejected", "{:.1%}"),
    ("one against the rest: discrimination", "per_user.discrimination", "{:.2f}"),
    ("nearest prototype is the user's", "metric_success", "{:.1%}"),
    ("Fréchet distance on own features", "frechet", "{:.1f}"),
    ("diversity within a user, real = 1", "diversity_ratio", "{:.2f}"),
    ("copies of training pictures", "nearest.copies", "{:.1%}"),
)
COSTS = (
    ("autoencoder: PSNR on held-out recordings, dB", "psnr", "{:.1f}"),
    ("autoencoder: SSIM", "ssim", "{:.3f}"),
    ("parameters: autoencoder", "autoencoder_parameters", "{:,}"),
    ("parameters: generator", "generator_parameters", "{:,}"),
    ("training of the autoencoder, s of one core", "autoencoder_seconds", "{:.0f}"),
    ("training of the generator, s of one core", "generator_seconds", "{:.0f}"),
    ("training: most memory, MB", "peak_megabytes", "{:.0f}"),
    ("generation: s of one core per picture", "seconds_per_sample", "{:.2f}"),
)


def measured(function: Callable[..., Any], *arguments: Any, **named: Any) -> dict[str, Any]:
    """Call the function. Returns its `result`, which is JSON-ready, with the seconds of the processor and the most memory of this process."""
    begin, wall = time.process_time(), time.perf_counter()
    result = function(*arguments, **named)
    return {
        "result": result,
        "processor_seconds": time.process_time() - begin,
        "seconds": time.perf_counter() - wall,
        "peak_bytes": peak_memory(),
        "threads": torch.get_num_threads(),
    }


def apart(record: Path, function: Callable[..., Any], *arguments: Any, **named: Any) -> dict[str, Any]:
    """`measured` in a new process, kept in the file `record`, from which it is read where it is there."""
    if not record.is_file():
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            write_json(record, pool.submit(measured, function, *arguments, **named).result())
    found: dict[str, Any] = json.loads(record.read_text(encoding="utf-8"))
    return found


def diffusion_costs(work: Path, data: Path, side: int, users: int, options: argparse.Namespace) -> dict[str, Any]:
    """Train, generate to WORK/diffusion_samples; what the autoencoder is worth, and what all of it cost."""
    first = second = None  # what is not trained here has no cost that is known
    vae_dir, model_dir = options.vae_dir, options.diffusion_dir
    if model_dir is None and vae_dir is None:
        vae_dir = work / "vae"
        settings = recipe_settings(
            "small", data_dir=str(data), output_dir=str(vae_dir), resolution=side, num_users=users, max_steps=options.vae_steps
        )  # fmt: skip
        first = apart(work / "vae_cost.json", train_vae, settings)
    if model_dir is None:
        model_dir = work / "diffusion"
        steps = {"max_steps": options.diffusion_steps, "eval_every": options.diffusion_steps}
        second = apart(work / "diffusion_cost.json", train_on_spectrograms, data, vae_dir, model_dir, "small", **steps)
    sampling = GenerationSettings(options.guidance_scale, options.num_inference_steps)
    out = work / "diffusion_samples"
    sampled = apart(
        work / "diffusion_samples.json", generate, model_dir, out, options.samples_per_user, settings=sampling
    )
    record = read_model_record(Path(model_dir))
    vae, of_vae = load_vae(Path(model_dir) / record["vae"])
    return {
        "psnr": of_vae["psnr"],
        "ssim": of_vae["ssim"],
        "autoencoder_parameters": sum(one.numel() for one in vae.parameters()),
        "generator_parameters": record["parameters"],
        "steps": [of_vae["steps"], record["steps"]],
        "autoencoder_seconds": first and first["processor_seconds"],
        "generator_seconds": second and second["processor_seconds"],
        "peak_megabytes": max(one["peak_bytes"] for one in (first, second) if one) / 1e6 if first or second else None,
        **_sampling(sampled),
    }


def vq_costs(work: Path, data: Path, side: int, options: argparse.Namespace) -> dict[str, Any]:
    """The same of the VQ-VAE and its transformer, whose records have the costs; samples are in WORK/vq_samples."""
    model_dir, trained = options.vq_dir, None
    if model_dir is None:
        model_dir = work / "vq"
        first, second = (
            {"max_steps": steps, "eval_every": min(steps, EVERY * factor)}
            for steps, factor in zip(options.vq_steps, (5, 1), strict=True)
        )
        trained = apart(work / "vq_cost.json", train_vq, data, model_dir, "small", first | {"resolution": side}, second)
    records = load_vq_model(model_dir).records
    autoencoder, generator = records["vqvae"], records["transformer"]
    # in the records of a training that was started from here, the peak may be that of this process
    peak = trained["peak_bytes"] if trained else max(autoencoder["peak_bytes"], generator["peak_bytes"])
    settings = VQGenerationSettings(options.guidance_scale)
    sampled = apart(
        work / "vq_samples.json",
        generate_vq,
        model_dir,
        work / "vq_samples",
        options.samples_per_user,
        settings=settings,
    )
    return {
        "psnr": autoencoder["psnr"],
        "ssim": autoencoder["ssim"],
        "autoencoder_parameters": autoencoder["parameters"],
        "generator_parameters": generator["parameters"],
        "steps": [autoencoder["steps"], generator["steps"]],
        "autoencoder_seconds": autoencoder["processor_seconds"],
        "generator_seconds": generator["processor_seconds"],
        "peak_megabytes": peak / 1e6,
        "codes_of_a_picture": autoencoder["codes_of_a_picture"],
        "codes_used": autoencoder["codes_used"],
        "cross_entropy": generator["cross_entropy"],
        **_sampling(sampled),
    }


def _sampling(sampled: Mapping[str, Any]) -> dict[str, Any]:
    new = sampled["result"]["new"]
    return {
        "samples": sampled["result"]["samples"],
        "seconds_per_sample": sampled["processor_seconds"] / new if new else None,
        "sampling_megabytes": sampled["peak_bytes"] / 1e6,
    }


def scores(work: Path, data: Path, samples: Path, fit: FitSettings) -> dict[str, Any]:
    """What the validators say of the pictures in `samples`, of held-out real ones and of independent pixels; `judge`: of the validators."""
    result, _ = validate(ValidationSettings(data, samples, work / "validation", fit))
    sets = {}
    for name, one in result["sets"].items():
        by_user = one["recognition"]["accuracy_by_user"]
        sets[name] = {path: figure_at(one, path) for _, path, _ in SCORES if path != LEAST}
        sets[name] |= {LEAST: min(by_user.values()), "accuracy_by_user": by_user, "pictures": one["pictures"]}
    return {"judge": result["judge"], "sets": sets, "frechet_size": result["sets"]["generated"]["frechet_size"]}


def table(content: Mapping[str, Any]) -> str:
    """Scores, then costs: a column for each method, then held-out real pictures and independent pixels."""
    methods = content["methods"]
    first = next(iter(methods.values()))["scores"]["sets"]
    rows = [
        [label, *(_cell(one["scores"]["sets"]["generated"][path], form) for one in methods.values()),
         _cell(first["held_out"][path], form), _cell(first["baseline"][path], form)]
        for label, path, form in SCORES
    ]  # fmt: skip
    rows += [
        [label, *(_cell(one["costs"][key], form) for one in methods.values()), "", ""] for label, key, form in COSTS
    ]
    heading = f"simulated walkers, {content['users']} users, {content['side']}²"
    return markdown_table([heading, *methods, "held-out real", "independent pixels"], rows)


def _cell(value: float | None, form: str) -> str:
    return "unknown" if value is None else form.format(value)


def options_of(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--data_dir", type=Path, metavar="DIR", help="simulated spectrograms (default: made in WORK)")
    parser.add_argument("--vae_dir", type=Path, metavar="DIR", help="a trained VAE")
    parser.add_argument("--diffusion_dir", type=Path, metavar="DIR", help="a trained diffusion model with its VAE")
    parser.add_argument("--vq_dir", type=Path, metavar="DIR", help="what train_vq wrote")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS), help="(default: both)")
    for name, default, about in (
        ("side", 64, "pixels, of spectrograms made in WORK"),
        ("vae_steps", 3_000, "updates of the VAE"),
        ("diffusion_steps", 3_000, "updates of the diffusion model"),
        ("samples_per_user", 10, "pictures"),
        ("num_inference_steps", 50, "of DDIM"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, metavar="N", help=f"{about} (default: {default})")
    default = FitSettings().epochs
    about = f"of each of the three validators (default: {default})"
    parser.add_argument("--epochs", type=int, default=default, metavar="N", help=about)
    about = "updates of the VQ-VAE and of the transformer (default: 800 500)"
    parser.add_argument("--vq_steps", type=int, nargs=2, default=[800, 500], metavar="N", help=about)
    parser.add_argument("--guidance_scale", type=float, default=1.5, metavar="F", help="of both (default: 1.5)")
    parser.add_argument("--quick", action="store_true", help="a few steps on a few small pictures, to see that it runs")
    parser.add_argument(
        "--out", type=Path, default=FOLDER, metavar="DIR", help="for the JSON (default: benchmarks/results)"
    )
    options = parser.parse_args(arguments)
    if options.quick:
        few = {"side": 32, "vae_steps": 2, "diffusion_steps": 2, "vq_steps": [2, 2], "samples_per_user": 2}
        vars(options).update(few, num_inference_steps=2, epochs=1)
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the benchmark as the module's docstring says."""
    options = options_of(arguments)
    work, data = options.work, options.data_dir
    if data is None:
        data = work / "data"
        users, recordings, windows = (3, 3, 4) if options.quick else (31, 5, 20)
        simulate(data, users, recordings, windows, options.side)
    items = read_spectrograms(data)
    users = 1 + max(item.user for item in items)
    with Image.open(items[0].path) as picture:
        side = picture.width
    fit = FitSettings(users, side, options.epochs)
    methods: dict[str, Any] = {}
    for name in options.methods:
        if name == "diffusion":
            costs = diffusion_costs(work, data, side, users, options)
        else:
            costs = vq_costs(work, data, side, options)
        methods[METHODS[name]] = {"costs": costs, "scores": scores(work, data, work / f"{name}_samples", fit)}
        print(f"{METHODS[name]}: {methods[METHODS[name]]}", flush=True)
    content = {
        "simulated": True,
        "users": users,
        "side": side,
        "pictures": len(items),
        "guidance_scale": options.guidance_scale,
        "num_inference_steps": options.num_inference_steps,
        "epochs": options.epochs,
        "threads": torch.get_num_threads(),
        "methods": methods,
    }
    if not options.quick:
        replace_table("spectrogram_methods", table(content), PAGE)
    command = command_line("spectrogram.methods", arguments)
    print(write_result("spectrogram_methods", torch.device("cpu"), command, content, options.out))


if __name__ == "__main__":
    run_main(main)
