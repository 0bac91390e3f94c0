"""The command line of a device: `python NAME.edge run|verify|bench`, with the standard library, numpy, ONNX Runtime.

    __main__.py   what Python starts in a bundle        main.py      the three commands
    process.py    streams, exit codes                   page.py      tables in plain text
    tables.py     records as tables                     about.py     what a bundle says of itself
    damage.py     a damaged file, not a bug             arguments.py what each command takes

Every module that main.py reaches is packed into a bundle (exporters/device_code.py); the rest of `runtimes` is not.
"""
