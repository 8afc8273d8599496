"""``python -m ebm_zoo`` is ``ebm-zoo``."""

import sys

from ebm_zoo.cli import main

sys.exit(main())
