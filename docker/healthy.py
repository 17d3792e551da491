"""`healthy.py URL`: exit code 0 where the address answers with 200. For the health checks of containers, which have no curl."""

from __future__ import annotations

import sys
import urllib.error
import urllib.request


def main(address: str) -> int:
    try:
        with urllib.request.urlopen(address, timeout=8) as answer:
            return 0 if answer.status == 200 else 1
    except (OSError, ValueError) as error:
        print(f"{address}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
