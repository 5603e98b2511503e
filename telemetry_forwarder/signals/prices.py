"""What Lambda costs: the list prices in USD from which the cost of an invocation is estimated. Data, and how to use it.

Only the first tier is known here: which tier applies, and what is left of the free tier, depends on the account's
month. TELEMETRY_FORWARDER_PRICE_GB_SECOND and TELEMETRY_FORWARDER_PRICE_REQUEST replace the rates.
Source: AWS Lambda pricing, first tier, by region and architecture.
"""

from collections.abc import Mapping

from msgspec import Struct

DATE = "2026-09"  # of the list

PER_REQUEST = 0.20e-6
# Per GB-second (1 GB = 1024 MB): (x86_64, arm64).
USUAL = (0.0000166667, 0.0000133334)
# Duration where concurrency is provisioned. What the provisioned time itself costs, no invocation can tell.
PROVISIONED = (0.0000097222, 0.0000077778)
REGIONS: Mapping[str, tuple[float, float]] = {
    "af-south-1": (0.0000221, 0.00001768),
    "ap-east-1": (0.00002292, 0.0000183),
    "eu-south-1": (0.0000195172, 0.0000156138),
    "me-south-1": (0.0000206667, 0.0000165334),
    "me-central-1": (0.0000206667, 0.0000165334),
}
_ARM = frozenset({"aarch64", "arm64"})


class Rates(Struct, frozen=True):
    """What an invocation costs, in USD: `request` once, `gb_second` for each GB-second billed."""

    request: float
    gb_second: float

    def cost(self, billed_ms: float, memory_mb: float) -> float:
        """Return the estimated cost, rounded to 1e-12 USD."""
        return round(self.request + billed_ms / 1000 * memory_mb / 1024 * self.gb_second, 12)


def rates(
    region: str | None, machine: str, init_type: str | None, request: float | None, gb_second: float | None
) -> Rates:
    """Return the rates for a processor (`machine`, as `uname` tells it), or `request` and `gb_second` where given."""
    table = PROVISIONED if init_type == "provisioned-concurrency" else REGIONS.get(region or "", USUAL)
    found = table[machine in _ARM]
    return Rates(PER_REQUEST if request is None else request, found if gb_second is None else gb_second)
