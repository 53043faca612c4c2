"""`python -m linewatch`: how the supervisor starts its children, whatever PATH says."""

import sys

from linewatch.cli import main

if __name__ == "__main__":
    sys.exit(main())
