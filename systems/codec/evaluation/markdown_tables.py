"""The evaluation's tables as Markdown, for pages."""

from collections.abc import Mapping, Sequence
from typing import Any

from ....engine.errors import UsageError
from ....exporters.summaries.markdown import markdown_table
from ..bitstream.container import STREAMS
from .bd_rate import rate_at
from .evaluate import points_of


def markdown_tables(result: Mapping[str, Any]) -> str:
    """Return of what `evaluate` returned: our rates, their bytes by stream, BD-rates, and the classic formats' points."""
    count, failed = result["pictures"]["count"], result["pictures"]["failed"]
    ours = {name: curve for name, curve in result["curves"].items() if curve["kind"] == "ours"}
    classics = {name: curve for name, curve in result["curves"].items() if curve["kind"] != "ours"}
    left_out = f"; {len(failed)} left out" if failed else ""
    parts = [
        f"Means over {count} pictures{left_out}. bpp: bits of the whole file per pixel; cost: λ · 255² · MSE + bpp; beside it, the bpp "
        "that other formats need for the same mean PSNR, interpolated.",
        _rates(ours, classics, result["models"]),
        _streams(ours),
        "BD-rate: how many more bits for the same PSNR. Published curves are means over the 24 pictures of Kodak; on other "
        "pictures the figures against them say little.",
        _bd_rates(result["bd_rate"]),
        _classics(classics),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rates(ours: Mapping[str, Any], classics: Mapping[str, Any], models: Mapping[str, Any]) -> str:
    heading = ["curve", "quality", "λ", "bpp", "PSNR, dB", "cost", *(f"{name}, bpp" for name in classics)]
    rows = []
    for name, curve in ours.items():
        for rate in curve["rates"]:
            mean, quality = rate["mean"], rate["quality"]
            row = [name, quality, f"{models[quality]['lambda']:g}", f"{mean['bpp']:.4f}", f"{mean['psnr']:.2f}"]
            row += [
                f"{mean['rd_cost']:.4f}",
                *(bpp_at(points_of(classic), mean["psnr"]) for classic in classics.values()),
            ]
            rows.append([*row, *_seconds(mean)])
    return markdown_table([*heading, "encode, s", "decode, s"], rows)


def _streams(ours: Mapping[str, Any]) -> str:
    heading = [
        "curve",
        "quality",
        *(f"{name}, bytes" for name in STREAMS),
        "all streams",
        "the model's estimate",
        "excess",
    ]
    rows = []
    for name, curve in ours.items():
        for rate in curve["rates"]:
            found, ideal = rate["mean"]["stream_bytes"], sum(rate["mean"]["ideal_bytes"].values())
            total = sum(found.values())
            row = [
                name,
                rate["quality"],
                *(f"{found[stream]:.0f} ({_share(found[stream], total)})" for stream in STREAMS),
            ]
            rows.append([*row, f"{total:.0f}", f"{ideal:.0f}", f"{total - ideal:+.1f}"])
    return markdown_table(heading, rows)


def _bd_rates(entries: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for entry in entries:
        low, high = entry.get("psnr", (None, None))
        figure = "none" if low is None else f"{entry['percent']:+.1f} %"
        span = "" if low is None else f"{low:.1f} to {high:.1f} dB"
        rows.append([entry["curve"], entry["against"], entry["source"], figure, span])
    return markdown_table(["curve", "against", "which is", "BD-rate", "over"], rows)


def _classics(classics: Mapping[str, Any]) -> str:
    rows = []
    for name, curve in classics.items():
        for rate in curve["rates"]:
            mean = rate["mean"]
            rows.append([name, rate["quality"], f"{mean['bpp']:.4f}", f"{mean['psnr']:.2f}", *_seconds(mean)])
    return markdown_table(["format", "quality", "bpp", "PSNR, dB", "encode, s", "decode, s"], rows)


def _seconds(mean: Mapping[str, Any]) -> list[str]:
    return [f"{mean[key]:.3f}" for key in ("encode_seconds", "decode_seconds")]


def bpp_at(points: list[tuple[float, float]], psnr: float) -> str:
    """The bpp that a curve needs for a PSNR, as a table says it; "outside" where it has no such PSNR."""
    try:
        rate = rate_at(points, psnr)
    except UsageError:
        rate = None
    return "outside" if rate is None else f"{rate:.4f}"


def _share(part: float, total: float) -> str:
    return f"{100 * part / max(total, 1):.0f} %"
