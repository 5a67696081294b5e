"""pycuda of a device in the tests."""

VERSION_TEXT = "2026.1"
