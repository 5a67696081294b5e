"""The three kinds of error, shared by all packages.

    OctavoError
    ├── BadInput      what the user gave cannot be used      (no traceback, exit code 2)
    ├── Unsupported   a layer or target that cannot be served (no traceback, exit code 2)
    └── InternalError a promise of our own was broken: a bug  (full traceback)

Messages of the first two say what was given, what is allowed and how to fix it, and name the file or the
layer.
"""

__all__ = ["BadInput", "InternalError", "OctavoError", "Unsupported"]


class OctavoError(Exception):
    """Base of every error raised on purpose."""


class BadInput(OctavoError, ValueError):
    """Something the user gave is wrong; the message says what, and how to fix it."""


class Unsupported(OctavoError):
    """A correct input that cannot be served; the message names the layer and the reason."""


class InternalError(OctavoError):
    """A contract inside Octavo was broken; please report it."""
