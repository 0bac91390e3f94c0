"""What Python starts when it is given a bundle, `python NAME.edge`; every Python 3 reads it, to say no to old ones.

Packed as `__main__.py`; the bundle itself is then the first place where Python looks for modules.
Test: tests/test_device_bundle.py.
"""

import sys

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036  (no installer has looked)
        print("error: Python {}.{}: is too old; use Python 3.11 or later".format(*sys.version_info), file=sys.stderr)
        sys.exit(4)
    from runtimes.device.main import main

    sys.exit(main())
