"""Why ONNX Runtime left a quantized multiplication in float: one check for each rule of its CPU fusions.

The rules restate ``onnxruntime/core/optimizer/qdq_transformer/selectors_actions`` (``qdq_selectors.cc``,
``qdq_selector_action_transformer.cc``), ``qdq_s8_to_u8.cc`` and ``matmul_add_fusion.cc`` of ONNX Runtime
1.31; ``tests/deploy/test_rules.py`` shows each of them on the runtime itself. `factors` holds those about
what is multiplied, `results` those about what happens to the product.
"""

from deploy.audit.rules import factors, results
from deploy.audit.rules.registry import RULES, Finding, diagnose, left_out, rule, weight_only

__all__ = ["RULES", "Finding", "diagnose", "factors", "left_out", "results", "rule", "weight_only"]
