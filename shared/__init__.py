"""The co-sell connector: a pure core that decides and a thin shell that acts. Start with `flows.py`."""

VERSION = "0.1.0"
