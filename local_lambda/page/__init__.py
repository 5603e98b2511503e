"""A page that shows a local Lambda while it runs (`--page`), and the same picture as a file (`--report`).

What happens goes one way: `recorder` reads the environments and the destinations, `timeline` and `sightings` make rows
of it (both pure), `tables` keeps the last of them, `server` sends what changed to browsers, `report` writes it all into
one file; `show` is what a command puts around a run. The page itself is in `static`: plain HTML, CSS and JavaScript.

This package is imported only where one of the two options is given.
"""

from local_lambda.page.destinations import Book, Destination, Ledger, ReadLedger, Request, Sighting
from local_lambda.page.show import Show

__all__ = ["Book", "Destination", "Ledger", "ReadLedger", "Request", "Show", "Sighting"]
