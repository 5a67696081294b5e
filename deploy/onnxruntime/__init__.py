"""ONNX Runtime: how a session is built (``build``) and how it is run (``run``).

Importing this package turns ONNX Runtime's telemetry off, unless the environment says otherwise. It has to
happen before `onnxruntime` is imported: release 1.31 for Linux opens a database of events in the user's cache
folder, and an uploader, as soon as it is loaded, and `onnxruntime.disable_telemetry_events()` does not close
them.
"""

import os

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
