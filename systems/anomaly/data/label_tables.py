"""Which number a vertebra has in a mask, by the tool that made the mask."""

from .names import LEVELS

# number -> level; numbers that are not here are left out: other levels, and parts such as the sacrum
TOTALSEGMENTATOR = {40 - i: level for i, level in enumerate(LEVELS)}  # version 2: 27 is L5, 40 is T4
VERSE = {11 + i: level for i, level in enumerate(LEVELS)}  # VerSe, TPTBox: 11 is T4, 24 is L5
TABLES = {"totalsegmentator": TOTALSEGMENTATOR, "verse": VERSE}
