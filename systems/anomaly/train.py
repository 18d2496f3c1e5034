"""`python -m relatent.systems.anomaly.train fold_id=1 [--config-name=config_debug] [key=value …]`, by Hydra."""

import sys

from ...engine.errors import RelatentError, UsageError


def is_override(argument: str) -> bool:
    """Whether an argument changes a key of the configuration; others are options and their values."""
    return not argument.startswith("-") and ("=" in argument or argument.startswith("~"))


def main() -> None:
    """Train by the arguments of the process; errors are one line and exit status 2, or 1 where the run could not go on."""
    try:
        import hydra
        from omegaconf import DictConfig, OmegaConf

        from .training.run import CONFIG_FOLDER, train
    except ModuleNotFoundError as error:
        sys.exit(f"error: {error.name} is missing; install it with: pip install 'relatent[anomaly]'")

    @hydra.main(version_base="1.3", config_path=str(CONFIG_FOLDER), config_name="config")
    def run(config: DictConfig) -> None:
        try:
            result = train(OmegaConf.to_container(config, resolve=True))  # type: ignore[arg-type]
        except RelatentError as error:
            print(f"error: {error}", file=sys.stderr)
            sys.exit(2 if isinstance(error, UsageError) else 1)
        print(*(f"{name}: {value}" for name, value in result.items()), sep="\n")

    # Hydra's parser takes overrides in one run only, before or behind the options
    sys.argv[1:] = sorted(sys.argv[1:], key=is_override)
    run()


if __name__ == "__main__":
    main()
