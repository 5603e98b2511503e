"""The addresses of AWS's services, by region. Pure."""

# The domains of the partitions, by the prefix of their regions; all others are in `amazonaws.com`.
# Source: botocore's endpoint rules, with which a test compares.
_DOMAINS = {
    "cn-": "amazonaws.com.cn",
    "eusc-": "amazonaws.eu",
    "us-iso-": "c2s.ic.gov",
    "us-isob-": "sc2s.sgov.gov",
    "us-isof-": "csp.hci.ic.gov",
    "eu-isoe-": "cloud.adc-e.uk",
}


def host_in(service: str, region: str) -> str:
    """Return the host of `service` in a region, of whatever partition."""
    domain = next((domain for prefix, domain in _DOMAINS.items() if region.startswith(prefix)), "amazonaws.com")
    return f"{service}.{region}.{domain}"
