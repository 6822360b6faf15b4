"""A conformance suite: any implementation of PaliGemma, compared with big_vision's outputs.

An implementation is reached through an `Adapter` of ten methods. The suite gives it tiny models as
files, and compares what its methods return with what big_vision, the code that the released
checkpoints were trained with, gave for the same models. `pgjax conformance` runs it.
"""
