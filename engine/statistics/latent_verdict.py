"""The verdict on a run's latents: what makes the optimised ones harder to train on than the encoder's, in plain words.

The limits are from the study of docs/latents_for_training.md, between latents that trained a diffusion as well as the
encoder's, or better, and latents that did not:

- distance: 0.54 σ (photographs, TAEF2, `balanced`) was no worse; 0.89 σ (`best` there) was restored from noise 1.1 dB worse,
  1.2 σ (simulated spectrograms) 1.3 dB worse, and 3.3 σ was worse in every figure;
- spread: 1.20 times was no worse, and 1.4 times was;
- share of high frequencies: 1.20 times was no worse, and 1.31 times was. Among the others it predicts little;
- decoded with noise, and half way: with the bundled autoencoder 1.8 and 2.5 dB less than the encoder's were no worse, the 3.0
  and 3.3 dB less of plain noise were; the 3.1 and 3.5 dB less of `best` were not, so the limits err on the strict side.

Pure functions of the figures in `LatentReport.summary`, so that a run.json of an earlier version can be judged too.
"""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Criterion:
    """A figure of `against_encoder`, and the limit beyond which the latents are said to differ.

    With one image in eight decoded, at most four, differences under 0.5 dB are within the scatter between images.
    """

    keys: tuple[str, ...]
    limit: float
    worse: int  # 1: the larger, the worse; -1: the smaller, the worse
    label: str
    form: str  # of the value and of the limit


CRITERIA = (
    Criterion(("distance",), 0.7, 1, "moved from the encoder's", "{:.2f} σ"),
    Criterion(("std_ratio",), 1.25, 1, "standard deviation", "×{:.2f}"),
    Criterion(("high_frequency_ratio",), 1.25, 1, "share of high frequencies", "×{:.2f}"),
    Criterion(("noise_psnr", "noise_0.1"), -2.4, -1, "PSNR decoded with noise of 0.1 σ", "{:+.1f} dB"),
    Criterion(("interpolation", "decoded_psnr"), -2.9, -1, "PSNR decoded half way to another latent", "{:+.1f} dB"),
)
STATUSES = ("similar", "differs", "incomplete")
REMEDY = (
    "A diffusion model may find them harder to learn: stay nearer to the encoder's with --preset train, or do less with "
    "--preset fast."
)
WHY_NOT = (
    "Pictures are decoded again for this when the run's first shard is complete; half way between two latents needs two "
    "different pictures of one size in it. Runs of earlier versions have no such figures."
)


def against_encoder(report: dict[str, Any]) -> dict[str, Any]:
    """Return how far the optimised latents moved (mean over images, in σ), the ratios of the standard deviations and of the
    shares of high frequencies, and optimised − encoder's of each figure in dB that both have.

    report: the figures under `initial` and `optimized`, as JSON-compatible values. None stands for what is not known.
    """
    before, after = report["initial"], report["optimized"]
    found: dict[str, Any] = {"distance": report.get("distance", {}).get("mean")}
    for name, figure in (("std_ratio", "std"), ("high_frequency_ratio", "high_frequency_share")):
        values = before.get(figure), after.get(figure)
        found[name] = values[1] / values[0] if values[0] and values[1] is not None else None
    for figure in ("psnr_loss", "noise_psnr", "interpolation"):
        if figure in before and figure in after:
            found[figure] = {
                name: after[figure][name] - value if value is not None and after[figure].get(name) is not None else None
                for name, value in before[figure].items()
            }
    return found


def verdict(compared: dict[str, Any]) -> dict[str, str]:
    """Return `status`, one of `STATUSES`, and `text`, one paragraph for people. compared: of `against_encoder`."""
    beyond, within, missing = list[str](), list[str](), list[str]()
    for one in CRITERIA:
        value: Any = compared
        for key in one.keys:
            value = (value or {}).get(key)
        if value is None:
            missing.append(one.label)
            continue
        words = f"{one.label}: {one.form.format(value)} (limit {one.form.format(one.limit)})"
        (beyond if (value - one.limit) * one.worse > 0 else within).append(words)
    text = f"The optimised latents differ from the encoder's: {'; '.join(beyond)}. {REMEDY}" if beyond else ""
    if within:
        text += f" Within the limits: {'; '.join(within)}." if beyond else (
            f"No difference from the encoder's latents beyond the limits: {'; '.join(within)}."
        )  # fmt: skip
    if missing:
        text += f" Not measured: {'; '.join(missing)}. {WHY_NOT}"
    return {"status": "differs" if beyond else "incomplete" if missing else "similar", "text": text.strip()}
