"""`look`: the figures of one compiled step, made in a process of its own."""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...engine.autoencoders.rewrite import FAST_REWRITES
from ...engine.errors import RelatentError, UsageError
from .stub import build_stub


@dataclass(frozen=True)
class Request:
    """Which step to look at. Its gradients are exact: the low-rank backward pass needs measured weights."""

    vae: str = "sd"
    size: int = 512  # side of the pictures, in pixels
    batch: int = 1
    precision: str = "bf16"
    rewrites: tuple[str, ...] = FAST_REWRITES

    def __post_init__(self) -> None:
        if self.size < 64 or self.size % 8 or self.batch < 1:
            raise UsageError(
                f"codegen: expected a size of at least 64 that is a multiple of 8 and a batch of at least 1, "
                f"found {self.size} and {self.batch}"
            )


def look(request: Request, code: Path | None = None) -> dict[str, Any]:
    """Compile the step for an H100 that need not be there, and return its figures; see `summary.py`.

    code: where to write the generated module. Raises `CodegenUnavailableError` where this machine cannot do it, and
    `RelatentError` where the step does not compile.
    """
    with tempfile.TemporaryDirectory(prefix="relatent-codegen-") as name:
        folder = Path(name)
        asked, found = folder / "request.json", folder / "result.json"
        asked.write_text(json.dumps(asdict(request) | {"code": code and str(code.absolute())}), encoding="utf-8")
        environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        environment["LD_PRELOAD"] = str(build_stub(folder))
        environment["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        environment["TRITON_CACHE_DIR"] = str(folder / "triton")
        command = [sys.executable, "-m", f"{__package__}.trace", str(asked), str(found)]
        done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        if not found.is_file():
            raise RelatentError(f"codegen: the step did not compile for a GPU:\n{done.stderr.strip()}")
        result: dict[str, Any] = json.loads(found.read_text(encoding="utf-8"))
    return result
