"""What the compiler makes of one optimisation step on an NVIDIA GPU, without one.

    python -m relatent.benchmarks.codegen [--vae sd] [--size 512] [--batch 1] [--precision bf16] [--json]

See docs/codegen.md.
"""

import argparse
import json
import sys
from pathlib import Path

from ...engine.autoencoders.rewrite import DEFAULT_REWRITES, FAST_REWRITES, REWRITES
from ...engine.errors import RelatentError
from ...engine.runtime.device import DTYPES
from .decoders import DECODERS
from .look import Request, look
from .report import as_text, write

STEPS = {  # what `--write` measures
    "sd": Request(),
    "sd, without the fast rewrites": Request(rewrites=DEFAULT_REWRITES),
    "taef2": Request(vae="taef2"),
}


def main(arguments: list[str] | None = None) -> int:
    """Print the figures of a step; exit status 1 with the reason where this machine cannot make them."""
    parser = argparse.ArgumentParser(
        prog="python -m relatent.benchmarks.codegen",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--vae", choices=sorted(DECODERS), default="sd")
    parser.add_argument("--size", type=int, default=512, help="side of the pictures, in pixels")
    parser.add_argument("--batch", type=int, default=1, help="pictures")
    parser.add_argument("--precision", choices=sorted(DTYPES), default="bf16")
    parser.add_argument(
        "--plain", action="store_true", help="without the fast rewrites of a GPU, as they are left out where they fail"
    )
    parser.add_argument(
        "--rewrite", action="append", choices=sorted(REWRITES), help="a rewrite beside the ones chosen so"
    )
    parser.add_argument("--code", type=Path, help="file for the generated module")
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    parser.add_argument(
        "--write", action="store_true", help="measure the steps of docs/codegen.md and write them there"
    )
    options = parser.parse_args(arguments)
    rewrites = (*(DEFAULT_REWRITES if options.plain else FAST_REWRITES), *(options.rewrite or ()))
    try:
        if options.write:
            print(write({name: look(request) for name, request in STEPS.items()}))
            return 0
        found = look(Request(options.vae, options.size, options.batch, options.precision, rewrites), options.code)
    except RelatentError as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps(found, indent=1) if options.json else as_text(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
