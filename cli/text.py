"""Results as text for users, and as JSON for programs."""

import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any


def print_json(value: Any) -> None:
    """Print one strict JSON object, in ASCII where the output cannot hold every character."""
    everything = (getattr(sys.stdout, "encoding", None) or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=1, ensure_ascii=not everything, allow_nan=False))


def never_fail_for_an_encoding() -> None:
    """Let stdout and stderr write escapes for what their encoding lacks, such as σ in cp1252, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_result(value: Any, lines: Iterable[str], as_json: bool) -> None:
    """Print `value` as JSON, or else the lines that state the same as text.

    For JSON the lines are not iterated over.
    """
    if as_json:
        print_json(value)
        return
    for line in lines:
        print(line)


def what_is_kept(out: Path | None, resumes: bool = True) -> str:
    """Return what a stopped command leaves, and, if `out` holds a run, how to resume it.

    resumes: whether `relatent resume` goes on with what the command did; otherwise the command itself has to be given again.
    """
    if not resumes:
        return "nothing half-written is left, and the same command, given again, does it anew"
    goes_on = f", and `relatent resume {out}` goes on" if _holds_run(out) else ""
    return f"what was finished is kept{goes_on}"


def stopped_line(message: str, out: Path | None) -> str:
    """Return the message of a run that stopped.

    How to resume is appended if `out` holds a run and the message does not state it.
    """
    says_how = "relatent resume" in message or not _holds_run(out)
    return message if says_how else f"{message}; {what_is_kept(out)}"


def _holds_run(out: Path | None) -> bool:
    """Return whether `out` is the folder of a run."""
    return out is not None and (out / "run.json").exists()


def summary(run: dict[str, Any], out: Path) -> Iterator[str]:
    """Yield the lines printed at the end of a run, from the contents of its run.json."""
    from ..engine.inputs.folders import skipped_line

    counts = run["counts"]
    yield f"{out}: {counts['done']} of {counts['total']} pictures, {run['status']}, vae {run['vae']['name']}"
    if fallback := counts.get("fallback"):
        yield f"{fallback} kept the encoder's latent: no iteration improved them"
    yield from _statistics_table(run)
    yield from _latents_table(run.get("latents", {}))
    yield from _time_and_memory(run)
    for name, path in run["outputs"].items():
        yield f"{name}: {path}"
    yield from map(skipped_line, run.get("skipped") or ())
    for failure in run["failures"]:
        yield f"failed in {failure['stage']}: {failure['source_path']}: {failure['reason']}"


def nothing_improved(run: dict[str, Any], out: Path) -> str | None:
    """Return what to say of a run of which not one finished picture was improved; None for any other run."""
    done = run["counts"]["done"]
    if not 0 < done == run["counts"].get("fallback"):
        return None
    return (
        f"none of the {done} pictures was improved, each kept the encoder's latent: the learning rate may be too high for "
        "this autoencoder, its precision too low (stop reason non-finite), the regulariser too strong, or the iterations "
        f"too few. `relatent info {out}` lists the stop reasons; try another --learning-rate, --precision fp32 or more "
        "--iterations, with another OUT"
    )


def _statistics_table(run: dict[str, Any]) -> Iterator[str]:
    """Yield mean, minimum and maximum of each metric over the pictures, and the gain of mirrored ones."""
    from ..exporters.summaries.statistics import statistic_rows

    if not run["statistics"]:
        return
    yield ""
    yield f"{'':22}{'mean':>10}{'least':>10}{'most':>10}"
    for label, values in statistic_rows(run["statistics"], ("mean", "min", "max")):
        yield f"{label:22}" + "".join(f"{value:>10}" for value in values)
    if flipped := run.get("statistics_flipped"):
        before, after, gain = (flipped[key]["mean"] for key in ("initial_psnr", "final_psnr", "psnr_improvement"))
        yield f"mirrored too: {before:.2f} → {after:.2f} dB ({gain:+.2f}) on average"
    yield ""


def _latents_table(report: dict[str, Any]) -> Iterator[str]:
    """Yield the statistics of the latents, the encoder's beside the optimised ones."""
    from ..exporters.summaries.latents import latent_distance, latent_rows, latent_verdict

    rows = latent_rows(report)
    if not rows:
        return
    yield f"{'latents':26}{'encoder':>10}{'optimised':>12}"
    for label, before, after in rows:
        yield f"{label:26}{before:>10}{after:>12}"
    yield latent_distance(report)
    yield latent_verdict(report)
    yield ""


def _time_and_memory(run: dict[str, Any]) -> Iterator[str]:
    """Yield the elapsed time, the hardware, and how the engine ran."""
    seconds = run["seconds"]
    per_image = seconds.get("optimize", 0.0) / max(run["counts"]["done"], 1)
    yield (
        f"{seconds.get('total', 0.0):.1f} s in all, {per_image:.2f} s of optimising per picture, "
        f"{run['precision']} on {run['hardware']['name']}"
    )
    if "engine" in run:
        engine = run["engine"]
        compiling = f", {seconds['compile']:.1f} s of compiling" if engine["mode"] != "eager" else ""
        peak = engine["peak_memory_bytes"] / 2**30
        yield f"{engine['mode']}, {engine['batch_size']} at a time, {peak:.2f} GiB at most{compiling}"
        if engine.get("tile"):
            yield (
                f"in tiles of {engine['tile']} pixels; decoded in tiles and whole, the latents agree to "
                f"{engine['seam_psnr']:.1f} dB at least"
            )
        elif engine.get("recompute"):
            yield "with recomputation, which takes less memory and more time"


def verdict(found: dict[str, Any], out: Path) -> Iterator[str]:
    """Yield the results of `relatent verify`: counts, damaged and repaired files, and what was not checked."""
    shards, sample = found["shards"], found["sample"]
    yield (
        f"{out}: {found['status']}, {shards['finished']} of {shards['planned']} shards, {found['pictures']} sound pictures, "
        f"{found['outputs']} outputs, {len(found['damage'])} damaged"
    )
    for one in found["repaired"]:
        yield f"repaired: {one['file']}: {one['what']}"
    for one in found["damage"]:
        yield f"{one['file']}: {one['what']}; {one['remedy']}"
    yield from found["notes"]
    if inputs := found["inputs"]:
        yield f"{inputs['checked']} input pictures read again, {len(inputs['changed'])} not as they were planned"
    if sample.get("decoded"):
        yield (
            f"{sample['decoded']} pictures decoded, within {sample['largest_difference_db']:.4f} dB of what was recorded"
        )
    if sample.get("not_decoded"):
        yield f"not decoded, or not all: {sample['not_decoded']}"
