"""`python -m tests.salesforce_package`: every finding about the Salesforce package; 1 where there is one."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.salesforce_package.checks import findings
from tests.salesforce_package.conversion import write_manifests
from tests.salesforce_package.tree import SALESFORCE, Package


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.salesforce_package", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=SALESFORCE, help="folder with an sfdx-project.json (default: salesforce)")
    parser.add_argument("--write-manifests", action="store_true", help="first write manifest/*.xml from what the files hold")
    arguments = parser.parse_args()
    package = Package(arguments.folder)
    if arguments.write_manifests:
        for path in write_manifests(package):
            print(f"wrote {path}")
    found = findings(package)
    for one in found:
        print(one)
    print(f"{len(package.components)} components, {len(found)} findings")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
