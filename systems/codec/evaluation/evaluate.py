"""The codec's models on whole pictures: bytes, PSNR and seconds of each, beside classic formats and published curves."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ....engine.errors import RelatentError, UsageError
from ..bitstream.image_codec import Encoded, ImageCodec
from ..measures import measure
from .bd_rate import Points, bd_rate, overlap
from .classic import CLASSICS, ClassicCodec
from .pictures import read_picture

OURS, REFINED = "relatent", "relatent, refined"  # curves that are ours
Refine = Callable[[ImageCodec, Tensor], Encoded]
Row = dict[str, Any]  # of one file
Method = tuple[str, str | int, Callable[[Tensor], Row]]  # a curve, a quality, and what measures a picture's file of it


def evaluate(
    pictures: Mapping[str, Path],
    codecs: Mapping[str, ImageCodec],
    classics: Sequence[ClassicCodec] = CLASSICS,
    published: Mapping[str, Points] | None = None,
    refine: Refine | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Return a JSON-ready dictionary:

    `pictures`: `{count, names, failed: [{name, error}]}`. `models`: by quality, `{lambda, configuration, sha256}`.
    `curves`: by name, `{kind: "ours" or "classic", settings, rates: [{quality, mean, pictures}]}`, `mean` having `bytes`,
    `bpp`, `psnr` (dB), `encode_seconds` and `decode_seconds`, ours also `rd_cost`, `mismatch`, and, in bytes, `stream_bytes`
    and the model's own estimate `ideal_bytes` of each of z, s1, s2, s3; `pictures` has them for each picture.
    `bd_rate`: for each of our curves and each other one
    `{curve, against, source: "measured" or "published", percent, psnr: [from, to]}`, or a `reason` where there is no figure.
    `mismatches`: the number of files whose decoded picture is not the encoder's reconstruction bit for bit; must be 0.

    Means are of the pictures' figures, those of PSNR too, as in CompressAI's tables. A picture that cannot be read or coded is
    reported in one line and left out of every figure.

    pictures: files by name, see `find_pictures`. codecs: by quality; together they are one curve. published: curves by name to
    compare with. refine: encodes a picture better, in more time; its files are a second curve. progress: is given a line per
    picture. Raises UsageError where no codec is given or no picture is left.
    """
    if not codecs:
        raise UsageError("evaluation: expected at least one model, found none")
    methods = _methods(codecs, classics, refine)
    done: dict[str, list[Row]] = {}
    failed = []
    for number, (name, path) in enumerate(pictures.items(), 1):
        try:
            image = read_picture(path)
            done[name] = [run(image) for _, _, run in methods]
        except RelatentError as error:
            failed.append({"name": name, "error": str(error)})
            progress(f"{number}/{len(pictures)} {name}: left out: {error}")
            continue
        found = (f"{row['bpp']:.3f} bpp {row['psnr']:.2f} dB" for row in done[name] if "mismatch" in row)
        progress(f"{number}/{len(pictures)} {name}: {', '.join(found)}")
    if not done:
        first = f"; the first: {failed[0]['name']}: {failed[0]['error']}" if failed else ""
        raise UsageError(f"evaluation: none of {len(pictures)} pictures could be used{first}")
    curves = _curves(methods, done, classics)
    ours = [rate for curve in curves.values() if curve["kind"] == "ours" for rate in curve["rates"]]
    return {
        "pictures": {"count": len(done), "names": list(done), "failed": failed},
        "models": {
            name: {"lambda": codec.lmbda, "configuration": codec.model.configuration.name, "sha256": codec.sha256.hex()}
            for name, codec in codecs.items()
        },
        "mismatches": sum(row["mismatch"] for rate in ours for row in rate["pictures"]),
        "bd_rate": _bd_rates(curves, published or {}),
        "curves": curves,
    }


def points_of(curve: Mapping[str, Any]) -> list[tuple[float, float]]:
    """Return the mean points of one of `curves`, (bpp, PSNR)."""
    return [(rate["mean"]["bpp"], rate["mean"]["psnr"]) for rate in curve["rates"]]


def _methods(codecs: Mapping[str, ImageCodec], classics: Sequence[ClassicCodec], refine: Refine | None) -> list[Method]:
    """What is done with every picture."""

    def ours(codec: ImageCodec, encode: Refine) -> Callable[[Tensor], Row]:
        return lambda image: _measure(codec, encode, image)

    def classic(codec: ClassicCodec, quality: int) -> Callable[[Tensor], Row]:
        return lambda image: asdict(codec.measure(image, quality))

    found: list[Method] = []
    for curve, encode in ((OURS, ImageCodec.encode), (REFINED, refine)):
        if encode is not None:
            found += [(curve, name, ours(codec, encode)) for name, codec in codecs.items()]
    return found + [(codec.name, quality, classic(codec, quality)) for codec in classics for quality in codec.qualities]


def _measure(codec: ImageCodec, encode: Refine, image: Tensor) -> Row:
    """One picture through encoder and decoder."""
    start = time.perf_counter()
    encoded = encode(codec, image)
    middle = time.perf_counter()
    decoded = codec.decompress(encoded.data)
    end = time.perf_counter()
    return {
        **asdict(measure(image, encoded, codec.lmbda)),
        "encode_seconds": middle - start,
        "decode_seconds": end - middle,
        "mismatch": int(not torch.equal(decoded, encoded.reconstruction)),
        "stream_bytes": encoded.stream_bytes,
        "ideal_bytes": {name: bits / 8 for name, bits in encoded.ideal_bits.items()},
    }


def _curves(
    methods: list[Method],
    done: Mapping[str, list[Row]],
    classics: Sequence[ClassicCodec],
) -> dict[str, dict[str, Any]]:
    settings = {codec.name: dict(codec.settings) for codec in classics}
    curves: dict[str, dict[str, Any]] = {}
    for (name, quality, _), rows in zip(methods, zip(*done.values(), strict=True), strict=True):
        kind = {"kind": "classic", "settings": settings[name]} if name in settings else {"kind": "ours"}
        named = [{"name": picture, **row} for picture, row in zip(done, rows, strict=True)]
        rate = {"quality": quality, "mean": _mean(rows), "pictures": named}
        curves.setdefault(name, {**kind, "rates": []})["rates"].append(rate)
    return curves


def _mean(rows: Sequence[Row]) -> Row:
    """The mean of each number, inside of dictionaries too."""
    return {
        key: _mean([row[key] for row in rows]) if isinstance(value, dict) else sum(r[key] for r in rows) / len(rows)
        for key, value in rows[0].items()
    }


def _bd_rates(curves: Mapping[str, Any], published: Mapping[str, Any]) -> list[dict[str, Any]]:
    ours = [name for name, curve in curves.items() if curve["kind"] == "ours"]
    measured = {name: points_of(curve) for name, curve in curves.items()}
    others = [("measured", name, points) for name, points in measured.items() if name not in ours]
    others += [("published", name, points) for name, points in published.items()]
    if REFINED in ours:
        others.insert(0, ("measured", OURS, measured[OURS]))
    found = []
    for name in ours:
        for source, against, points in others:
            if against == name:
                continue
            entry = {"curve": name, "against": against, "source": source}
            try:
                percent, common = bd_rate(points, measured[name]), overlap(points, measured[name])
                found.append({**entry, "percent": percent, "psnr": list(common)})
            except UsageError as error:
                found.append({**entry, "percent": None, "reason": str(error)})
    return found
