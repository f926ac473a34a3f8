"""Logits of every position from the llama.cpp inside the xllamacpp wheel: the same library that its server runs.

The wheel's Python interface only answers with likely tokens, so this calls its C interface (llama.h). Contexts are
llama.cpp's default ones, as large as a piece of the text must be. So the script needs no field of its parameters, and
their layout changes from version to version.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import xllamacpp

_PARAMETERS_BYTES = 1024  # more than either structure has; what is passed beyond its end is never read


class _Parameters(ctypes.Structure):
    _fields_ = (("opaque", ctypes.c_uint64 * (_PARAMETERS_BYTES // 8)),)


class _Batch(ctypes.Structure):
    """`llama_batch`: its arrays are the caller's."""

    _fields_ = (
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.c_void_p),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.c_void_p),
        ("n_seq_id", ctypes.c_void_p),
        ("seq_id", ctypes.c_void_p),
        ("logits", ctypes.c_void_p),
    )


_POINTER = ctypes.c_void_p
_quiet = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, _POINTER)(lambda *_: None)
_SIGNATURES = {
    "llama_model_default_params": (_Parameters, ()),
    "llama_context_default_params": (_Parameters, ()),
    "llama_model_load_from_file": (_POINTER, (ctypes.c_char_p, _Parameters)),
    "llama_model_get_vocab": (_POINTER, (_POINTER,)),
    "llama_vocab_n_tokens": (ctypes.c_int32, (_POINTER,)),
    "llama_init_from_model": (_POINTER, (_POINTER, _Parameters)),
    "llama_n_ctx": (ctypes.c_uint32, (_POINTER,)),
    "llama_decode": (ctypes.c_int32, (_POINTER, _Batch)),
    "llama_get_logits": (_POINTER, (_POINTER,)),
    "llama_free": (None, (_POINTER,)),
    "llama_log_set": (None, (_POINTER, _POINTER)),
    "llama_model_free": (None, (_POINTER,)),
}


def logits_of(path: Path, pieces: Sequence[npt.NDArray[np.int64]]) -> Iterator[npt.NDArray[np.float32]]:
    """The logits of each piece from its beginning, float32 [tokens, vocab_size], computed as one prompt each.

    pieces: tokens, at most as many in one as a default context holds (512). Raises RuntimeError if llama.cpp fails.
    """
    library = ctypes.CDLL(xllamacpp.xllamacpp.__file__)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.llama_log_set(ctypes.cast(_quiet, _POINTER), None)
    model = library.llama_model_load_from_file(str(path).encode(), library.llama_model_default_params())
    if not model:
        raise RuntimeError(f"llama.cpp cannot load {path}")
    vocab_size = library.llama_vocab_n_tokens(library.llama_model_get_vocab(model))
    for piece in pieces:
        context = library.llama_init_from_model(model, library.llama_context_default_params())
        if not context or library.llama_n_ctx(context) < len(piece):
            raise RuntimeError(f"a default context of llama.cpp's does not hold {len(piece)} tokens")
        tokens, positions = piece.astype(np.int32), np.arange(len(piece), dtype=np.int32)
        counts, wanted = np.ones(len(piece), np.int32), np.ones(len(piece), np.int8)
        sequence = np.zeros(1, np.int32)
        sequences = np.full(len(piece), sequence.ctypes.data, np.uint64)  # each token's list is this one
        arrays = (positions, counts, sequences, wanted)
        batch = _Batch(len(piece), tokens.ctypes.data, None, *(array.ctypes.data for array in arrays))
        if status := library.llama_decode(context, batch):
            raise RuntimeError(f"llama_decode failed with {status}")
        address = library.llama_get_logits(context)
        floats = (ctypes.c_float * (len(piece) * vocab_size)).from_address(address)
        yield np.frombuffer(floats, np.float32).reshape(len(piece), vocab_size).copy()
        library.llama_free(context)
    library.llama_model_free(model)
