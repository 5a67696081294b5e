"""One variant of a run for one target, as one file or folder that says what it is and that it is whole.

A bundle has no subfolders. As a file it is a zip without compression; unzipped it is the same bundle:

| file | what it is |
|---|---|
| ``manifest.json`` | format and version of the layout; model, variant, target; inputs, outputs, preprocessing; accuracy and latency as measured, with FP32's, the device and the conditions; versions; licence; SHA-256 and size of each file but the next |
| ``SHA256SUMS`` | of all other files, manifest included, as ``sha256sum --check`` reads them |
| ``model.onnx`` | lowered for the target; or instead ``engine.plan`` and ``engine.json`` |
| ``labels.txt`` | the name of each output, one per line; absent where outputs have numbers only |
| ``LICENSE`` | of the weights, where it was given as a file |
| ``sbom.cdx.json`` | bill of materials (CycloneDX) |

The same run gives the same bytes: entries are sorted, from 1980, with mode 0644, and nothing is asked of the
clock or the machine. The digests tell damage, not malice: who can change a file can change the list. Compare
the bundle's own digest, which `octavo verify` prints, with one that came another way.

Loading needs NumPy, ONNX Runtime, and Pillow for images; nothing that this package imports needs PyTorch.
"""  # noqa: E501 (a table has one line per row)

from deploy.bundle.bundle import Answer, Bundle
from deploy.bundle.load import HERE, check_target, load_bundle

__all__ = ["HERE", "Answer", "Bundle", "check_target", "load_bundle"]
