"""The search: space, samplers, pruning, zooms, pools of workers and the log of a run."""

import logging

# A library is silent unless the program that uses it asks for its log.
logging.getLogger("caviar").addHandler(logging.NullHandler())
