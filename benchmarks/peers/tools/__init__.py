"""The peers. Importing this registers them in the order of the table."""

from benchmarks.peers.tools import modelopt, nncf, onnxruntime, quark  # noqa: F401
