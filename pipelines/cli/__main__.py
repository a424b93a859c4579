"""`python -m pipelines.cli` is the command `caviar`."""

import sys
from pathlib import Path

import pipelines

# `python -m` has put the working directory first on sys.path. It may be the folder of a foreign
# run, where a file such as cython.py would be imported in the place of a package.
try:
    folder = str(Path.cwd())
except FileNotFoundError:  # it was removed, so nothing can be imported from it
    folder = ""
if sys.path[0] == folder != str(Path(pipelines.__file__).parents[1]):
    del sys.path[0]

from pipelines.cli import main

if __name__ == "__main__":
    main()
