"""The trainers whose buckets are known, and the text that names one: `TRAINER[:RESO[,OPTION…]]`."""

from ...errors import UsageError
from .ai_toolkit import AIToolkit
from .musubi import Musubi
from .onetrainer import OneTrainer
from .rule import BucketRule, Option
from .sd_scripts import SdScripts
from .simpletuner import SimpleTuner

TRAINERS: dict[str, type[BucketRule]] = {
    "sd-scripts": SdScripts,
    "musubi": Musubi,
    "ai-toolkit": AIToolkit,
    "onetrainer": OneTrainer,
    "simpletuner": SimpleTuner,
}


def parse_buckets(text: str) -> BucketRule:
    """Return the rule that a text such as `sd-scripts:1024x768,step=64,no-upscale` states.

    Raises `UsageError`, one line that names what was expected, for an unknown trainer, an unknown option of a known
    one, or a value outside its range.
    """
    name, _, rest = text.partition(":")
    if name not in TRAINERS:
        raise UsageError(
            f"buckets: expected TRAINER[:RESO[,OPTION…]] with one of {', '.join(TRAINERS)}, found {text!r}"
        )
    trainer = TRAINERS[name]
    resolution, *written = rest.split(",")
    options: dict[str, int | str | bool] = {}
    try:
        for item in written:
            option, value = _read_option(item.strip(), trainer.OPTIONS)
            if option in options:
                raise UsageError(f"{item.strip()!r} is given twice")
            options[option] = value
        size = trainer.read_resolution(resolution.strip() or trainer.DEFAULT, options)
        return trainer(size, **options)
    except UsageError as error:
        raise UsageError(f"buckets: {name}: {error}") from error


def _read_option(item: str, known: dict[str, Option]) -> tuple[str, int | str | bool]:
    """Return the field and the value that `NAME=VALUE` or `NAME` sets."""
    name, equals, value = item.partition("=")
    if name not in known:
        names = ", ".join(f"{option}={_values(values)}" if values else option for option, values in known.items())
        raise UsageError(f"unknown option {item!r}; known: {names}")
    values = known[name]
    field = name.replace("-", "_")
    if values is None and not equals:
        return field, True
    if isinstance(values, range) and value.isascii() and value.isdigit() and int(value) in values:
        return field, int(value)
    if isinstance(values, tuple) and value in values:
        return field, value
    raise UsageError(f"expected {name}{'=' + _values(values) if values else ' without a value'}, found {item!r}")


def _values(values: range | tuple[str, ...]) -> str:
    if isinstance(values, tuple):
        return "|".join(values)
    multiples = f" in steps of {values.step}" if values.step > 1 else ""
    return f"{values[0]} to {values[-1]}{multiples}"
