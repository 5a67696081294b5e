"""``python -m deploy.serve``: what `octavo serve` does, without Typer."""

import sys

from deploy.serve.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], "python -m deploy.serve"))
