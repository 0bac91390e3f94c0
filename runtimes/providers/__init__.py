"""One file, one execution provider. Contract of a file:

    ORT_NAME: str                                    ONNX Runtime's name of it, e.g. "CPUExecutionProvider"
    Options                                          frozen dataclass: what can be chosen, each with its default
    require() -> None                                raises `Unavailable` naming the first thing missing, in one line
    options(chosen: Options) -> dict[str, str]       provider options that a session is created with; raises `BadInput`
                                                     where ONNX Runtime would be wrong with what was chosen
    configure(session_options) -> None               settings of `onnxruntime.SessionOptions` that this provider wants

`tests/test_providers_contract.py` holds every file in this folder to that.
"""
