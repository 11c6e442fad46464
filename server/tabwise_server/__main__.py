"""`python -m tabwise_server` is the `tabwise` command."""

import sys

from tabwise_server.cli import main

if __name__ == "__main__":
    sys.exit(main())
