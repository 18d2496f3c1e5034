"""The subcommands that read the folder of a run: info, report, verify, export."""

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exporters.base.registry import FORMATS
from .exit_status import DONE, SOME_FAILED
from .options import add_command, out_argument, recorded_device_option
from .start_up import start_torch
from .text import print_result, summary, verdict

if TYPE_CHECKING:
    from ..factory.state.run_folder import RunFolder


def add_commands(commands: Any) -> None:
    """Declare info, report, verify and export. `relatent resume` goes on with none of them but a repair."""
    info = add_command(commands, "info", _info, "what is in a run's folder")
    info.set_defaults(resumes=False)
    out_argument(info)

    about = "a page to look at, OUT/report.html: figures, curves, telling pictures"
    report = add_command(commands, "report", _report, about)
    report.set_defaults(resumes=False)
    out_argument(report)

    verify = add_command(commands, "verify", _verify, "check every checksum of a run, and decode a sample of it")
    out_argument(verify)
    verify.add_argument("--repair", action="store_true", help="make broken shards and outputs again")
    verify.add_argument("--inputs", action="store_true", help="read every input picture and mask again, too")
    recorded_device_option(verify)

    _add_export(commands)


def _add_export(commands: Any) -> None:
    """Declare export."""
    export = add_command(
        commands,
        "export",
        _export,
        "another format from the same run, without optimising again",
        usage="%(prog)s [-h] [--json] --to FORMAT [--single-file] OUT [DEST]",
    )
    export.set_defaults(resumes=False)
    out_argument(export)
    export.add_argument("--to", required=True, metavar="FORMAT", help=", ".join(FORMATS))
    dest = export.add_argument(
        "dest", metavar="DEST", type=_destination, help="where (default: its usual place in OUT)"
    )
    # not nargs="?": with it, Python 3.11 treats DEST as absent if --to comes between OUT and DEST
    dest.required = False
    export.add_argument(
        "--single-file", action="store_true", default=None, help="hdf5 with everything in it, without the shards"
    )


def _destination(text: str) -> Path:
    """Return the path given as DEST. argparse reports the error of an empty one, which pathlib takes for "."."""
    if not text:
        raise argparse.ArgumentTypeError("expected the path of a file or folder, found an empty text")
    return Path(text)


def _info(options: argparse.Namespace) -> int:
    """Run `relatent info`, and return its exit status."""
    from ..factory.state.run_folder import RunFolder

    folder = RunFolder.open(options.out)
    print_result(folder.record.to_json(), _run_and_pictures(folder), options.json)
    return DONE


def _run_and_pictures(folder: "RunFolder") -> Iterator[str]:
    """Yield the summary of a run, then one line per finished picture."""
    yield from summary(folder.record.to_json(), folder.out)
    for records in folder.records():
        for record in records:
            metrics = record.metrics
            yield (
                f"  {record.split}/{record.name}: {metrics['initial_psnr']:.2f} → {metrics['final_psnr']:.2f} dB "
                f"({metrics['psnr_improvement']:+.2f}), {len(record.losses)} iterations, {record.stop_reason}"
            )


def _report(options: argparse.Namespace) -> int:
    """Run `relatent report`, and return its exit status."""
    from ..factory.report import write_report

    path = str(write_report(options.out))
    print_result({"path": path}, [path], options.json)
    return DONE


def _verify(options: argparse.Namespace) -> int:
    """Run `relatent verify`, and return its exit status."""
    start_torch()
    from ..factory.verification.verify import verify_run

    found = verify_run(options.out, repair=options.repair, device=options.device, inputs=options.inputs)
    print_result(found, verdict(found, options.out), options.json)
    return SOME_FAILED if found["damage"] else DONE


def _export(options: argparse.Namespace) -> int:
    """Run `relatent export`, and return its exit status."""
    from ..engine.errors import UsageError
    from ..exporters.base.exporter import exporter_class
    from ..factory.export import export_lock, export_run
    from ..factory.state.run_folder import RunFolder

    links_shards = exporter_class(options.to).links_shards
    if options.single_file and not links_shards:
        raise UsageError(f"--single-file is for hdf5; {options.to} never points to the shards")
    folder = RunFolder.open(options.out)
    with export_lock(folder):
        path = str(export_run(folder, options.to, options.dest, options.single_file))
    print_result({"format": options.to, "path": path}, [path], options.json)
    return DONE
