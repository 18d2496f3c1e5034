"""Do latents that the engine has optimised train a better generative model than the encoder's?

    python -m relatent.benchmarks.latents_for_training WORK [--data_dir DIR --vae_dir DIR] [--photographs DIR --taef2 DIR]
    python -m relatent.benchmarks.latents_for_training WORK --quick

For each domain: pictures, a classifier for its features, every arm's latents and their measures; then for each seed a diffusion
per arm, its samples and their figures. What is finished in WORK is not made again, and several processes of the same command may
share WORK. Writes benchmarks/results/latents_for_training-*.json, docs/images/latents_for_training.png and the table of
docs/latents_for_training.md; with --quick, which is a trial, WORK/results alone.
"""

import argparse
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path

import torch

from ...engine.errors import UsageError
from ..results import FOLDER, command_line, replace_table, run_main, write_result
from .arms import ARMS, BASE, Arm, Domain, optimise
from .cells import run_cell
from .data import Source, prepare_photographs, prepare_spectrograms, train_spectrogram_vae
from .features import prepare_classifier
from .measures import measure_arm
from .plot import study_plot
from .settings import GUIDANCE, QUICK, TIMESTEPS, StudySettings, keep_settings
from .summary import collect, tables
from .tasks import Task, claim, run_tasks

PAGE = Path(__file__).parents[2] / "docs" / "latents_for_training.md"
NAME = "latents_for_training"
DOMAINS = ("spectrograms", "taef2", "tiny")


def find_domains(options: argparse.Namespace) -> list[Domain]:
    """Those that were asked for and can be had; a line says which cannot."""
    work = options.work.resolve()
    spectrograms, photographs = Source(work / "spectrogram_pictures", True), Source(work / "photographs", False)
    vae = options.vae_dir.resolve() if options.vae_dir else work / "vae"
    found = []
    for name in options.domains:
        if name == "spectrograms":
            found.append(Domain(name, work / name, spectrograms, str(vae / "vae")))
        elif options.photographs is None or not options.photographs.is_dir():
            print(f"{name}: skipped, since it needs --photographs DIR")
        elif name == "taef2" and (options.taef2 is None or not options.taef2.is_dir()):
            print(f"{name}: skipped, since it needs --taef2 DIR, with its weights")
        else:
            found.append(Domain(name, work / name, photographs, name, options.taef2 if name == "taef2" else None))
    if not found:
        raise UsageError(f"none of the domains {', '.join(options.domains)} can be studied; give --photographs DIR")
    return found


def plan(options: argparse.Namespace, settings: StudySettings, domains: Sequence[Domain]) -> list[Task]:
    """All tasks, in the order in which they are started: preparations, then cells seed by seed, so that a stopped study is balanced."""
    arms = [ARMS[name] for name in options.arms]
    runs = {arm.name: arm for arm in (ARMS[BASE], *arms) if arm.preset}
    tasks: dict[str, Task] = {}

    def add(name: str, done: Path, needs: Sequence[Path], function: object, *arguments: object) -> None:
        tasks.setdefault(name, Task(name, done, tuple(needs), lambda: function(*arguments)))  # type: ignore[operator]

    for domain in domains:
        source, ready = domain.source, [domain.source.record]
        if source.conditional:
            add("pictures/spectrograms", source.record, [], prepare_spectrograms, source, settings, options.data_dir)
            if options.vae_dir is None:
                made = Path(domain.vae).parent / "done.json"
                add("vae", made, ready, train_spectrogram_vae, source, settings, options.data_dir, made)
                ready.append(made)
        else:
            add("pictures/photographs", source.record, [], prepare_photographs, source, settings, options.photographs)
        kind = source.folder.name
        add(f"classifier/{kind}", source.classifier, [source.record], prepare_classifier, source, settings)
        for arm in runs.values():
            add(f"latents/{domain.name}/{arm.name}", domain.optimised(arm), ready, optimise, domain, arm, settings.side)
        for arm in _of_domain(arms, domain):
            needs = [source.classifier, domain.optimised(arm), domain.optimised(ARMS[BASE])]
            add(f"arm/{domain.name}/{arm.name}", domain.measured(arm), needs, measure_arm, domain, arm, settings)
    for seed in range(1, options.seeds + 1):
        for domain in domains:
            for arm in _of_domain(arms, domain):
                name = f"cell/{domain.name}/{arm.name}/{seed}"
                add(name, domain.cell(arm, seed), [domain.measured(arm)], run_cell, domain, arm, seed, settings)
    return list(tasks.values())


def _of_domain(arms: Sequence[Arm], domain: Domain) -> list[Arm]:
    return [arm for arm in arms if domain.source.conditional or not arm.shuffled]


def write_summary(
    options: argparse.Namespace, settings: StudySettings, domains: Sequence[Domain], given: object
) -> None:
    """The result, the plot and the page of what is finished so far."""
    found = collect(domains, [ARMS[name] for name in options.arms], options.seeds)
    content = {"settings": asdict(settings), "timesteps": TIMESTEPS, "guidance": GUIDANCE, "domains": found}
    command = command_line(NAME, given)  # type: ignore[arg-type]
    out = options.out or (options.work / "results" if options.quick else FOLDER)
    print(write_result(NAME, torch.device("cpu"), command, content, out))
    if options.quick or options.out:
        (out / f"{NAME}.md").write_text(tables(found) + "\n", encoding="utf-8")
        study_plot(found, out / f"{NAME}.png")
    else:
        replace_table(NAME, tables(found), PAGE)
        study_plot(found, PAGE.parent / "images" / f"{NAME}.png")


def read_options(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, StudySettings]:
    """The options, and the settings that they change."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path, metavar="WORK")
    parser.add_argument("--domains", nargs="+", choices=DOMAINS, default=list(DOMAINS))
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, metavar="N", help="how many (default: 3, or 2 with --quick)")
    parser.add_argument(
        "--data_dir", type=Path, metavar="DIR", help="spectrograms (default: they are simulated in WORK)"
    )
    parser.add_argument("--vae_dir", type=Path, metavar="DIR", help="of train-vae, of the same side (default: trained)")
    parser.add_argument("--photographs", type=Path, metavar="DIR", help="for the domains taef2 and tiny")
    parser.add_argument("--taef2", type=Path, metavar="DIR", help="the weights of TAEF2")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: a trial of the whole")
    parser.add_argument("--summary", action="store_true", help="only collect what is finished")
    parser.add_argument("--out", type=Path, metavar="DIR", help="for JSON, table and plot, in place of the repository")
    for field in fields(StudySettings):
        parser.add_argument(f"--{field.name}", type=int, metavar="N", help=f"default: {field.default}")
    options = parser.parse_args(arguments)
    options.seeds = options.seeds or (2 if options.quick else 3)
    given = {field.name: getattr(options, field.name) for field in fields(StudySettings)}
    own = {name: value for name, value in given.items() if value is not None}
    return options, StudySettings(**(QUICK if options.quick else {}) | own)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the study as the module's docstring says."""
    options, settings = read_options(arguments)
    domains = find_domains(options)
    options.work.mkdir(parents=True, exist_ok=True)
    places = {
        name: str(path) if path else None for name, path in vars(options).items() if name in ("data_dir", "vae_dir")
    }
    keep_settings(options.work, {"settings": asdict(settings), **places})
    if not options.summary:
        run_tasks(plan(options, settings, domains), options.work / "locks", lambda line: print(line, flush=True))
    with claim(options.work / "locks" / "summary.lock") as claimed:
        if claimed:
            write_summary(options, settings, domains, arguments)


if __name__ == "__main__":
    run_main(main)
