"""The `relatent` command. Progress goes to stderr, results to stdout; torch is imported only where it is used."""

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

DONE, SOME_FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line; returns the exit status. Errors meant for the user are one line on stderr."""
    parser = build_parser()
    options, rest = parser.parse_known_args(arguments)
    if len(rest) == 1 and getattr(options, "dest", rest) is None and not rest[0].startswith("-"):
        options.dest = Path(rest[0])  # argparse fills an optional positional before it sees one behind an option
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    from ..engine.calibration.cache import cache_folder
    from ..engine.errors import RelatentError, RunStoppedError

    # compiled code outlives the process; torch's own default is a temporary folder
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(cache_folder("inductor")))
    # SIGTERM ends a run as Ctrl-C does: what is finished is written
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return options.run(options)
    except RunStoppedError as error:
        print(f"relatent: {error}", file=sys.stderr)
        return SOME_FAILED
    except RelatentError as error:
        print(f"relatent: {error}", file=sys.stderr)
        return USAGE
    except BrokenPipeError:
        sys.stderr.close()  # the reader of stdout has gone, and Python would complain of it at exit
        return SOME_FAILED
    except OSError as error:
        print(f"relatent: {error}; what was finished is kept{_how_to_resume(options)}", file=sys.stderr)
        return SOME_FAILED
    except KeyboardInterrupt:
        print(f"relatent: interrupted; what was finished is kept{_how_to_resume(options)}", file=sys.stderr)
        return INTERRUPTED


def _how_to_resume(options: argparse.Namespace) -> str:
    out = getattr(options, "out", None)
    return f", and `relatent resume {out}` goes on" if out is not None and (out / "run.json").exists() else ""


def build_parser() -> argparse.ArgumentParser:
    from .. import __version__
    from ..exporters.base.registry import FORMATS

    parser = argparse.ArgumentParser(
        prog="relatent", description="Find the latents a frozen decoder really needs, and write them as datasets."
    )
    parser.add_argument("--version", action="version", version=f"relatent {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = _command(commands, "demo", _demo, "four photographs through the bundled autoencoder; needs no network")
    demo.add_argument("out", metavar="OUT", type=Path, help="folder for the dataset")
    _preset_option(demo)
    demo.add_argument("--iterations", type=int, metavar="N", help="gradient steps per picture")

    optimize = _command(commands, "optimize", _optimize, "pictures in, a dataset of optimised latents out")
    optimize.add_argument(
        "input", metavar="INPUT", help="an image, a folder (train/ val/ test/ become splits), or a list of paths"
    )
    optimize.add_argument(
        "out", metavar="OUT", type=Path, help="folder for the dataset; goes on with this run if it is there"
    )
    _vae_options(optimize)
    optimize.add_argument("--size", type=int, metavar="N", help="side of the square in pixels (default: the VAE's own)")
    optimize.add_argument(
        "--fit", default="crop", metavar="crop|pad|none", help="how pictures get that size (default: crop)"
    )
    optimize.add_argument("--background", default="white", metavar="COLOUR", help="behind transparency and padding")
    _preset_option(optimize)
    optimize.add_argument("--iterations", type=int, metavar="N", help="gradient steps per picture")
    optimize.add_argument(
        "--learning-rate", type=float, metavar="F", help="in the latent's unit (default: relative to its spread)"
    )
    optimize.add_argument(
        "--loss",
        metavar="EXPR",
        help="mse, l1, huber, charbonnier, psnr, ssim, ms_ssim, improved_ssim, lpips, fft, or a sum such as "
        "'mse + 0.1*ssim(window=7, sigma=1.0)' (default: mse)",
    )
    optimize.add_argument(
        "--regularise",
        metavar="EXPR",
        help="keeps the latent near the encoder's: prior, tv, l2_to_init, or a sum such as '0.1*l2_to_init + 0.01*tv'",
    )
    optimize.add_argument(
        "--masks",
        type=Path,
        metavar="FOLDER",
        help="a greyscale image per picture, under the same path: white counts, black is ignored",
    )
    optimize.add_argument(
        "--target-gain", type=float, metavar="DB", help="stop each picture when it has gained so much"
    )
    optimize.add_argument(
        "--target-psnr", type=float, metavar="DB", help="stop each picture at this PSNR; with both targets, at either"
    )
    optimize.add_argument("--batch-size", default="auto", metavar="N|auto", help="pictures at once (default: auto)")
    optimize.add_argument("--precision", metavar="auto|fp32|bf16|fp16", help="of the decoder in the loop")
    optimize.add_argument(
        "--recompute", action="store_true", default=None, help="half the memory, for a second forward pass"
    )
    optimize.add_argument("--compile", metavar="auto|on|off", help="compile the iteration (default: on CUDA)")
    optimize.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:1|mps")
    optimize.add_argument("--limit", type=int, metavar="N", help="pictures per split")
    optimize.add_argument(
        "--format", action="append", metavar="NAME", help=f"repeatable (default: hdf5): {', '.join(FORMATS)}"
    )
    optimize.add_argument("--no-images", action="store_true", help="keep latents only; png and repa need the pictures")
    optimize.add_argument(
        "--flip",
        action="store_true",
        help="optimise each picture mirrored left-right too; mar and lightningdit need it",
    )
    optimize.add_argument("--seed", type=int, default=0, metavar="N", help="torch's seed, recorded")
    optimize.add_argument(
        "--shard-size", type=int, metavar="N", help="pictures finished together (default: 1 %% of them, at least 32)"
    )
    optimize.add_argument(
        "--single-file", action="store_true", help="dataset.h5 with everything in it, without the shards"
    )
    _execution_options(optimize)
    optimize.add_argument("--config", type=Path, metavar="FILE", help="TOML or JSON of settings; options above win")

    resume = _command(commands, "resume", _resume, "go on with a run that stopped, with its own recorded configuration")
    resume.add_argument("out", metavar="OUT", type=Path)
    resume.add_argument("--retry-failed", action="store_true", help="take up the pictures that failed, too")
    resume.add_argument("--device", metavar="auto|cpu|cuda|cuda:1|mps", help="default: as the run began")
    _execution_options(resume)

    info = _command(commands, "info", _info, "what is in a run's folder")
    info.add_argument("out", metavar="OUT", type=Path)

    report = _command(
        commands, "report", _page, "a page to look at, OUT/report.html: figures, curves, telling pictures"
    )
    report.add_argument("out", metavar="OUT", type=Path)

    verify = _command(commands, "verify", _verify, "check every checksum of a run, and decode a sample of it")
    verify.add_argument("out", metavar="OUT", type=Path)
    verify.add_argument("--repair", action="store_true", help="make broken shards and outputs again")
    verify.add_argument("--device", metavar="auto|cpu|cuda|cuda:1|mps", help="default: as the run began")

    export = _command(commands, "export", _export, "another format from the same run, without optimising again")
    export.add_argument("out", metavar="OUT", type=Path)
    export.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(FORMATS))
    export.add_argument("dest", metavar="DEST", type=Path, nargs="?", help="where (default: its usual place in OUT)")
    export.add_argument(
        "--single-file", action="store_true", default=None, help="hdf5 with everything in it, without the shards"
    )

    onnx = _command(commands, "export-onnx", _export_onnx, "decoder and encoder as ONNX, checked against onnxruntime")
    _vae_options(onnx)
    onnx.add_argument("file", metavar="FILE.onnx", type=Path)
    onnx.add_argument("--size", type=int, metavar="N", help="side of the picture in pixels (default: the VAE's own)")

    bench = _command(commands, "bench", _bench, "the benchmark suite: ceilings, kernels, iterations; minutes")
    bench.add_argument("--out", type=Path, default=Path("."), metavar="DIR", help="where the JSON goes (default: .)")
    bench.add_argument("--minutes", type=float, default=8.0, metavar="N", help="stop after about so long (default: 8)")
    bench.add_argument("--device", default="auto", metavar="auto|cpu|cuda|cuda:1")
    bench.add_argument("--small", action="store_true", help="a small decoder and few cells: does it run?")

    _command(commands, "models", _models, "the autoencoders that can be loaded by name")
    _command(commands, "doctor", _doctor, "what this machine can do, and why a fast path is off")
    return parser


def _command(commands: Any, name: str, run: Callable[..., int], about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=about, description=about[0].upper() + about[1:] + "."
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.set_defaults(run=run)
    return parser


def _vae_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vae", default="sd15", metavar="NAME|PATH", help="`relatent models` lists the names (default: sd15)"
    )
    parser.add_argument("--weights", metavar="PATH", help="a folder with the named VAE's weights")


def _execution_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read pictures ahead, for each device")
    parser.add_argument("--devices", metavar="N|auto", help="one process per GPU over the same plan; on CPU, N of them")
    parser.add_argument(
        "--ray", nargs="?", const="local", metavar="ADDRESS", help="on Ray: that cluster, or one on this machine"
    )
    parser.add_argument("--max-failures", type=int, metavar="N", help="stop when more pictures than that have failed")


def _execution(options: argparse.Namespace) -> dict[str, Any]:
    devices = options.devices
    if devices is not None and devices != "auto":
        devices = _whole_number("--devices", devices)
    return {
        "workers": options.workers,
        "devices": devices,
        "ray": options.ray,
        "max_failures": options.max_failures,
        "progress": True,
    }


def _preset_option(parser: argparse.ArgumentParser) -> None:
    from ..engine.optimization.presets import PRESETS  # knows no torch

    parser.add_argument(
        "--preset", metavar="|".join(PRESETS), help="how much work to spend per picture; other settings win over it"
    )


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False))


def _demo(options: argparse.Namespace) -> int:
    import shutil
    import tempfile

    from ..engine.inputs.sample_photographs import photographs
    from ..engine.optimization.presets import preset
    from ..engine.runtime.device import limit_threads
    from ..factory.api import optimize_directory

    limit_threads()
    config = preset(options.preset, **({"iterations": options.iterations} if options.iterations is not None else {}))
    with tempfile.TemporaryDirectory() as folder:
        for path in photographs():
            shutil.copy(path, folder)
        run = optimize_directory(
            folder,
            options.out,
            "tiny",
            config=config,
            preset=options.preset,
            formats=["hdf5", "png", "pt"],
            progress=True,
        )
    return _report(run, options)


def _optimize(options: argparse.Namespace) -> int:
    from ..engine.optimization.config import read_settings
    from ..engine.optimization.presets import preset
    from ..engine.runtime.device import limit_threads
    from ..factory.api import optimize_directory

    limit_threads()
    overrides = {
        "iterations": options.iterations,
        "learning_rate": options.learning_rate,
        "loss_function": options.loss,
        "regularisers": options.regularise,
        "target_gain": options.target_gain,
        "target_psnr": options.target_psnr,
        "precision": options.precision,
        "compile": options.compile,
        "recompute": options.recompute,
    }
    overrides = {name: value for name, value in overrides.items() if value is not None}
    config = preset(options.preset, **((read_settings(options.config) if options.config else {}) | overrides))
    run = optimize_directory(
        options.input,
        options.out,
        options.vae,
        config=config,
        preset=options.preset,
        formats=options.format or ["hdf5"],
        weights=options.weights,
        device=options.device,
        size=options.size,
        fit=options.fit,
        background=options.background,
        masks=options.masks,
        batch_size=None if options.batch_size == "auto" else _whole_number("--batch-size", options.batch_size),
        limit=options.limit,
        keep_images=not options.no_images,
        flip=options.flip,
        seed=options.seed,
        shard_size=options.shard_size,
        single_file=options.single_file,
        **_execution(options),
    )
    return _report(run, options)


def _resume(options: argparse.Namespace) -> int:
    from ..engine.runtime.device import limit_threads
    from ..factory.api import resume_directory

    limit_threads()
    run = resume_directory(options.out, retry_failed=options.retry_failed, device=options.device, **_execution(options))
    return _report(run, options)


def _whole_number(option: str, text: str) -> int:
    from ..engine.errors import UsageError

    if not text.isdecimal():
        raise UsageError(f"{option}: expected a whole number or auto, found {text!r}")
    return int(text)


def _report(run: dict[str, Any], options: argparse.Namespace) -> int:
    if options.json:
        _print_json(run)
    else:
        print(_summary(run, options.out))
    return SOME_FAILED if run["counts"]["failed"] else DONE


def _info(options: argparse.Namespace) -> int:
    from ..factory.state.run_folder import RunFolder

    folder = RunFolder.open(options.out)
    if options.json:
        _print_json(folder.record.to_json())
        return DONE
    print(_summary(folder.record.to_json(), options.out))
    for records in folder.records():
        for record in records:
            metrics = record.metrics
            print(
                f"  {record.split}/{record.name}: {metrics['initial_psnr']:.2f} → {metrics['final_psnr']:.2f} dB "
                f"({metrics['psnr_improvement']:+.2f}), {len(record.losses)} iterations, {record.stop_reason}"
            )
    return DONE


def _page(options: argparse.Namespace) -> int:
    from ..factory.report import write_report

    path = write_report(options.out)
    if options.json:
        _print_json({"path": str(path)})
    else:
        print(path)
    return DONE


def _summary(run: dict[str, Any], out: Path) -> str:
    """The table people see at the end of a run."""
    from ..exporters.summaries.statistics import statistic_rows

    counts, vae, statistics = run["counts"], run["vae"], run["statistics"]
    seconds = run["seconds"]
    lines = [f"{out}: {counts['done']} of {counts['total']} pictures, {run['status']}, vae {vae['name']}"]
    if statistics:
        lines += ["", f"{'':22}{'mean':>10}{'least':>10}{'most':>10}"]
        for label, values in statistic_rows(statistics, ("mean", "min", "max")):
            lines.append(f"{label:22}" + "".join(f"{value:>10}" for value in values))
        if flipped := run.get("statistics_flipped"):
            before, after, gain = (flipped[key]["mean"] for key in ("initial_psnr", "final_psnr", "psnr_improvement"))
            lines.append(f"mirrored too: {before:.2f} → {after:.2f} dB ({gain:+.2f}) on average")
        lines.append("")
    lines += _latent_lines(run.get("latents", {}))
    per_image = seconds.get("optimize", 0.0) / max(counts["done"], 1)
    lines.append(
        f"{seconds.get('total', 0.0):.1f} s in all, {per_image:.2f} s of optimising per picture, "
        f"{run['precision']} on {run['hardware']['name']}"
    )
    if "engine" in run:
        engine = run["engine"]
        compiling = f", {seconds['compile']:.1f} s of compiling" if engine["mode"] != "eager" else ""
        peak = engine["peak_memory_bytes"] / 2**30
        lines.append(f"{engine['mode']}, {engine['batch_size']} at a time, {peak:.2f} GiB at most{compiling}")
    lines += [f"{name}: {path}" for name, path in run["outputs"].items()]
    for failure in run["failures"]:
        lines.append(f"failed in {failure['stage']}: {failure['source_path']}: {failure['reason']}")
    return "\n".join(lines)


def _latent_lines(report: dict[str, Any]) -> list[str]:
    """What the run's report says of the latents, the encoder's beside the optimised."""
    from ..exporters.summaries.latents import latent_distance, latent_rows

    rows = latent_rows(report)
    if not rows:
        return []
    lines = [f"{'latents':26}{'encoder':>10}{'optimised':>12}"]
    lines += [f"{label:26}{before:>10}{after:>12}" for label, before, after in rows]
    return [*lines, latent_distance(report), ""]


def _verify(options: argparse.Namespace) -> int:
    from ..engine.runtime.device import limit_threads
    from ..factory.verification.verify import verify_run

    limit_threads()
    found = verify_run(options.out, repair=options.repair, device=options.device)
    if options.json:
        _print_json(found)
    else:
        print(_verdict(found, options.out))
    return SOME_FAILED if found["damage"] else DONE


def _verdict(found: dict[str, Any], out: Path) -> str:
    """A line of counts, one for each thing that is, or was, wrong, and what could not be checked."""
    shards, sample = found["shards"], found["sample"]
    lines = [
        f"{out}: {found['status']}, {shards['finished']} of {shards['planned']} shards, {found['pictures']} sound pictures, "
        f"{found['outputs']} outputs, {len(found['damage'])} damaged"
    ]
    lines += [f"repaired: {one['file']}: {one['what']}" for one in found["repaired"]]
    lines += [f"{one['file']}: {one['what']}; {one['remedy']}" for one in found["damage"]]
    lines += found["notes"]
    if sample.get("decoded"):
        lines.append(
            f"{sample['decoded']} pictures decoded, within {sample['largest_difference_db']:.4f} dB of what was recorded"
        )
    if sample.get("not_decoded"):
        lines.append(f"not decoded, or not all: {sample['not_decoded']}")
    return "\n".join(lines)


def _export(options: argparse.Namespace) -> int:
    from ..engine.errors import UsageError
    from ..exporters.base.exporter import exporter_class
    from ..factory.export import export_lock, export_run
    from ..factory.state.run_folder import RunFolder

    exporter_class(options.to)  # raises for a format that does not exist
    if options.single_file and not exporter_class(options.to).links_shards:
        raise UsageError(f"--single-file is for hdf5; {options.to} never points to the shards")
    folder = RunFolder.open(options.out)
    with export_lock(folder):
        path = export_run(folder, options.to, options.dest, options.single_file)
    if options.json:
        _print_json({"format": options.to, "path": str(path)})
    else:
        print(path)
    return DONE


def _export_onnx(options: argparse.Namespace) -> int:
    from ..engine.autoencoders.loading import load_autoencoder
    from ..exporters.formats.onnx import export_onnx

    result = export_onnx(
        load_autoencoder(options.vae, weights=options.weights, device="cpu"), options.file, options.size
    )
    if options.json:
        _print_json(result)
        return DONE
    for part in ("decoder", "encoder"):
        if part in result:
            found = result[part]
            print(f"{part}: {found['path']}, within {found['largest_difference']:.1e} of torch")
    return DONE


def _bench(options: argparse.Namespace) -> int:
    import logging

    from ..benchmarks.suite import run_suite, table

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    content, path = run_suite(options.out, options.device, options.minutes, options.small)
    if options.json:
        _print_json(content | {"path": str(path)})
    else:
        print(table(content))
        print(path)
    return DONE


def _models(options: argparse.Namespace) -> int:
    from ..engine.autoencoders.catalogue import CATALOGUE

    if options.json:
        _print_json({name: vars(entry) for name, entry in CATALOGUE.items()})
        return DONE
    print(f"{'name':15}{'channels':>9}{'factor':>8}{'size':>7}  repository, note")
    for entry in CATALOGUE.values():
        where = entry.repository or "inside this package"
        print(
            f"{entry.name:15}{entry.latent_channels:>9}{entry.downscale_factor:>8}{entry.native_size:>7}  {where}: {entry.note}"
        )
    print("Also: a folder in diffusers' layout (--vae PATH), or any decoder module in Python.")
    return DONE


def _doctor(options: argparse.Namespace) -> int:
    from ..engine.runtime.doctor import examine

    findings = examine()
    if options.json:
        _print_json(findings)
        return DONE
    for name, value in findings["facts"].items():
        print(f"{name:18}{value}")
    for name, finding in findings["paths"].items():
        print(f"{name:18}{'on ' if finding['on'] else 'off'}  {finding['why']}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
