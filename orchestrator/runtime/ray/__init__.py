"""Workers on a Ray cluster: the only sub-package that imports Ray."""
