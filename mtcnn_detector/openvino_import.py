"""OpenVINO, imported without its telemetry, which would report every import over the network.

It starts a process for that, too, which a Ctrl-C in that moment ends with a traceback.
"""

import sys

TELEMETRY = "openvino_telemetry"

if TELEMETRY in sys.modules or "openvino" in sys.modules:
    import openvino as ov
else:
    sys.modules[TELEMETRY] = None  # type: ignore[assignment]  # as if it were not installed
    try:
        import openvino as ov
    finally:
        del sys.modules[TELEMETRY]
from openvino import opset14 as ops  # noqa: E402

__all__ = ["ops", "ov"]
