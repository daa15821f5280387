"""``python -m spadeline.command``: the same command, where its script isn't on the path."""

import sys

from spadeline.command import main

sys.exit(main())
