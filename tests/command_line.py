"""The command as a user runs it, and its JSON."""

import json
import subprocess
import sys


def relatent_process(*arguments, **options):
    command = [sys.executable, "-m", "relatent", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, **options)


def strict(text):
    """One JSON object, without NaN or infinity."""

    def refuse(constant):
        raise ValueError(constant)

    return json.loads(text, parse_constant=refuse)
