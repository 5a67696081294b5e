"""Model-local ONNX functions of standard operators, for arithmetic that no single operator expresses.

A function's node is called ``octavo.<Name>``. The exporter would inline functions of its own, so it sees only
the nodes; :class:`export.passes.functions.AddFunctions` adds what they mean to the file.
"""
