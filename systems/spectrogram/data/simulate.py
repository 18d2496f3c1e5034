"""A folder of simulated spectrograms: persons, their recordings, and each recording's passes as pictures."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ....engine.errors import UsageError
from ....engine.runtime.atomic import atomic_path, discard, write_json
from .errors import SpectrogramError
from .gait import Gait
from .spectrogram_folder import INDEX, SCHEMA, read_index
from .walk import PASS_SECONDS, Recording, draw_pass

DESCRIPTION = "simulated: a kinematic model of walking in front of a radar, no measurement of a person"
MODEL = 1  # of the simulator: to be raised when the same seed gives other pictures


@dataclass(frozen=True)
class Simulation:
    """What is simulated. Raises UsageError for numbers that give no data set."""

    users: int = 31
    recordings: int = 5  # of each user
    windows: int = 20  # pictures of each recording, every second one away from the radar
    side: int = 128  # pixels
    seed: int = 0
    model: int = MODEL

    def __post_init__(self) -> None:
        if min(self.users, self.recordings, self.windows) < 1 or self.seed < 0:
            raise UsageError(
                "users, recordings and windows: expected 1 or more, and a seed from 0 on, found "
                f"{self.users}, {self.recordings}, {self.windows} and {self.seed}"
            )
        if not 8 <= self.side <= 1024:
            raise UsageError(f"side: expected 8 to 1024 pixels, found {self.side}")

    def files(self, user: int) -> Iterator[tuple[str, int, int]]:
        """Name, recording and window, from 0 on, of each of a user's pictures."""
        for recording in range(self.recordings):
            for window in range(self.windows):
                yield f"{recording_name(user, recording)}_{window:04d}.png", recording, window


def recording_name(user: int, recording: int) -> str:
    """Such as 07-2 for the second recording of ID_7."""
    return f"{user + 1:02d}-{recording + 1}"


def simulate(
    out: str | Path,
    users: int = 31,
    recordings: int = 5,
    windows: int = 20,
    side: int = 128,
    seed: int = 0,
    notify: Callable[[int, int], None] = lambda done, users: None,
) -> dict[str, Any]:
    """Write `ID_{n}/{recording}_{window}.png` and `spectrograms.json`, which says `"simulated": true`; go on where it was stopped.

    Pictures are (side, side) RGB. A user's pictures depend on the seed and the user's number alone, not on how many others there are.
    A user's folder appears whole or not at all. notify: called with the number of finished users and that of all, after each one.
    Returns the folder, the settings, the numbers of pictures in all and of those made now, and the seconds that took.
    Raises UsageError for impossible settings and where `out` holds a simulation of other settings, SpectrogramError where it holds
    other spectrograms.
    """
    out, settings, started = Path(out), Simulation(users, recordings, windows, side, seed), time.monotonic()
    _begin(out, settings)
    made = 0
    for user in range(users):
        folder = out / f"ID_{user + 1}"
        if not all((folder / name).is_file() for name, _, _ in settings.files(user)):
            with atomic_path(folder) as temporary:
                temporary.mkdir()
                for name, picture in user_pictures(settings, user):
                    Image.fromarray(picture).save(temporary / name)
                    made += 1
        notify(user + 1, users)
    seconds = time.monotonic() - started
    pictures = users * recordings * windows
    return {
        "folder": str(out),
        "simulated": True,
        **asdict(settings),
        "pictures": pictures,
        "made": made,
        "seconds": seconds,
    }


def user_pictures(settings: Simulation, user: int) -> Iterator[tuple[str, np.ndarray]]:
    """Each picture of a user with its file's name: (side, side, 3) uint8 RGB."""
    gait = Gait.draw(_generator(settings.seed, user))
    drawn = [Recording.draw(gait, _generator(settings.seed, user, number)) for number in range(settings.recordings)]
    for name, recording, window in settings.files(user):
        draw = _generator(settings.seed, user, recording, window)
        yield name, draw_pass(drawn[recording], window % 2 == 1, draw, settings.side)


def _generator(seed: int, *key: int) -> np.random.Generator:
    # as a spawn key: in a plain sequence of numbers zeros at the end do not count, and a recording would be drawn as its user was
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _begin(out: Path, settings: Simulation) -> None:
    """Write the index, or find the one of the same simulation, and remove what a killed process left half written."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for pattern in (".ID_*.partial-*", ".ID_*.old-*"):
            for path in out.glob(pattern):
                discard(path)
    except OSError as error:
        raise SpectrogramError(f"{out} cannot be made: {error.strerror}; choose another OUT") from error
    index = read_index(out)
    if index is None:
        if next(out.glob("ID_*"), None) is not None:
            raise SpectrogramError(f"{out} holds other spectrograms, without {INDEX}: choose another OUT")
        write_json(out / INDEX, _index(settings))
        return
    found = index.get("simulation") if index["simulated"] else None
    if not isinstance(found, dict):
        raise SpectrogramError(f"{out} holds spectrograms that were not simulated: choose another OUT")
    if different := [
        f"{name} {found.get(name)}, not {value}" for name, value in asdict(settings).items() if found.get(name) != value
    ]:
        raise UsageError(
            f"{out} holds another simulation: {'; '.join(different)}. Choose another OUT, or the same settings"
        )


def _index(settings: Simulation) -> dict[str, Any]:
    spectrograms = {
        f"ID_{user + 1}/{name}": {
            "user": user,
            "recording": recording_name(user, recording),
            "time": PASS_SECONDS * window,
        }
        for user in range(settings.users)
        for name, recording, window in settings.files(user)
    }
    return {
        "schema": SCHEMA,
        "simulated": True,
        "description": DESCRIPTION,
        "simulation": asdict(settings),
        "spectrograms": spectrograms,
    }
