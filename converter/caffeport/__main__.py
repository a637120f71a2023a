"""``python -m caffeport`` is the command ``caffeport``."""

import sys

from .cli.main import main

sys.exit(main())
