"""The trained models that the package has."""

import subprocess
import sys

import pytest
import torch
from helpers import BSDS500  # type: ignore[import-not-found]
from relatent.engine.errors import UsageError
from relatent.engine.inputs.images import load_image
from relatent.systems.codec.bundled import FOLDER, find_codec, load_codec, qualities
from relatent.systems.codec.errors import BitstreamError
from relatent.systems.codec.measures import measure
