"""Split of spectrograms by recording: windows of one recording resemble each other, and must not be in both parts."""

from collections.abc import Sequence

import numpy as np

from .errors import SpectrogramError
from .spectrogram import Spectrogram


def split_by_recording(
    items: Sequence[Spectrogram], held_out: float = 0.2, seed: int = 0
) -> tuple[list[Spectrogram], list[Spectrogram]]:
    """The spectrograms to train with, and those held out: every user is in both parts, no recording is.

    held_out: part of each user's recordings, rounded, but one at least and not all. Both parts keep the order of `items`; the same
    recordings and seed give the same parts, whichever other users there are. Raises SpectrogramError for a part outside 0 to 1, where
    there are no items, or where a user has one recording only.
    """
    if not 0 < held_out < 1:
        raise SpectrogramError(f"held_out: expected a part between 0 and 1, found {held_out}")
    if not items:
        raise SpectrogramError("expected spectrograms to split, found none")
    recordings: dict[int, set[str]] = {}
    for item in items:
        recordings.setdefault(item.user, set()).add(item.recording)
    away: set[tuple[int, str]] = set()
    for user, names in recordings.items():
        if len(names) < 2:
            raise SpectrogramError(
                f"user {user} (ID_{user + 1}) has one recording only: a split by recording needs two or more of every user"
            )
        count = min(max(round(held_out * len(names)), 1), len(names) - 1)
        order = np.random.default_rng((seed, user)).permutation(sorted(names))
        away.update((user, str(name)) for name in order[:count])
    parts: tuple[list[Spectrogram], list[Spectrogram]] = ([], [])
    for item in items:
        parts[(item.user, item.recording) in away].append(item)
    return parts
