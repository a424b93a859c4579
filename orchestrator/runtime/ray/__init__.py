"""The pool of Ray actors."""
