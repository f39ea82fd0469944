"""`python -m sync`: the same as `product-sync`."""

import sys

from sync.cli import main

sys.exit(main())
