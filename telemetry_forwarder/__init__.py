"""An external AWS Lambda extension that forwards telemetry to the backends you already pay for.

Kept free of imports: Lambda starts nothing else until this process has registered (see `bootstrap`).
"""

__version__ = "0.1.0"
