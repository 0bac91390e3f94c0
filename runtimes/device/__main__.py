"""What Python starts when it is given a bundle, `python NAME.edge`; every Python 3 reads it, to say no to old ones.

Packed as `__main__.py`; the bundle itself is then the first place where Python looks for modules.
Test: tests/test_device_bundle.py.
"""

import sys

if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036  (no installer has looked)
        print("error: Python {}.{}: is too old; use Python 3.11 or later".format(*sys.version_info), file=sys.stderr)
        sys.exit(4)
    try:
        from runtimes.device.main import main
    except Exception as error:  # what is imported there is Python's own or packed beside this
        why = sys.argv[0], type(error).__name__, error
        print("error: {}: its program is damaged ({}: {}); copy the file again".format(*why), file=sys.stderr)
        sys.exit(1 if sys.argv[1:2] == ["verify"] else 2)

    sys.exit(main())
