"""``python -m normface`` is the command ``normface``."""

import sys

from .cli.main import main

sys.exit(main())
