"""ARM's own ONNX Runtime on this machine: QEMU's user mode, and a small root file system for it."""
