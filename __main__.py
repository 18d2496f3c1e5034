"""`python -m relatent`."""

import sys

from .cli import main

sys.exit(main())
