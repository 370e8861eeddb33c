"""Rows by words of four bytes: their columns as vectors, and products of bytes.

Written as loops, LLVM makes scattered stores of the columns, which take eight times as long.
"""

from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils, config
from numba.extending import intrinsic
from numba.np import arrayobj

from pipeline.engines.cpu.simd import FLOATS, INTS, WIDTH, in_every_lane, inner, store

WORD = 4  # bytes
# Whether the processor that numba compiles for adds up products of bytes, four at a time.
_TARGET: Any = config  # its attributes are made as it is read
_OWN_TARGET = _TARGET.ENABLE_AVX and not (_TARGET.CPU_NAME or _TARGET.CPU_FEATURES)
BYTE_PRODUCTS = bool(_OWN_TARGET and get_host_cpu_features().get("avx512vnni"))


@inner
def load_columns(
    rows: np.ndarray, member: np.ndarray, start: np.ndarray, cells: np.ndarray, kept: np.ndarray
) -> None:
    """Rows of 8 or 16 bits, or float32, into `cells`, (d · lanes,) float32, by columns.

    member: (lanes,) int32, numbers of the rows. start: (lanes,) int64, room. kept: (words · lanes,)
    int32 for the words, the last of which ends with its row; or empty.
    """
    dim, size = rows.shape[1], rows.itemsize
    length = dim * size
    if length < WORD:
        for lane in range(WIDTH):
            for d in range(dim):
                cells[d * WIDTH + lane] = np.float32(rows[member[lane], d])
        return
    for lane in range(WIDTH):
        start[lane] = np.int64(member[lane]) * length
    for place in range(0, length, WORD):
        first = min(place, length - WORD)
        words = _words(rows, start, first)
        if len(kept) > 0:
            store(kept, place // WORD * WIDTH, words)
        for i in range(WORD // size):
            store(cells, (first // size + i) * WIDTH, _column(rows, words, i))


@intrinsic
def _words(typing: Any, rows: Any, start: Any, first: Any) -> Any:
    """The words that begin so many bytes behind these places."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number, byte = ir.IntType(32), ir.IntType(8)
        data, starts = (
            arrayobj.make_array(signature.args[i])(context, builder, arguments[i]).data
            for i in range(2)
        )
        base = builder.gep(builder.bitcast(data, byte.as_pointer()), [arguments[2]])
        vector = ir.Constant(ir.VectorType(number, WIDTH), ir.Undefined)
        for lane in range(WIDTH):
            place = ir.Constant(number, lane)
            at = builder.gep(base, [builder.load(builder.gep(starts, [place]))])
            word = builder.load(builder.bitcast(at, number.as_pointer()), align=1)
            vector = builder.insert_element(vector, word, place)
        return vector

    return INTS(rows, start, types.intp), generate


@intrinsic
def _column(typing: Any, rows: Any, words: Any, i: Any) -> Any:
    """Element i of the words, of the type of the rows, as float32."""
    element = rows.dtype

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(FLOATS)
        if isinstance(element, types.Float):  # of four bytes: wider ones are read elsewhere
            return builder.bitcast(arguments[1], vector)
        number = builder.trunc(arguments[2], ir.IntType(32))
        value = _part(builder, arguments[1], number, element.bitwidth, signed=element.signed)
        return builder.sitofp(value, vector)

    return FLOATS(rows, words, types.intp), generate


def _part(builder: Any, words: Any, i: Any, bits: int, *, signed: bool) -> Any:
    """Code for part i, of so many bits, of each word: to the upper end, and down with its sign."""
    kind = words.type
    rest = ir.Constant(kind.element, 32 - bits)
    above = builder.sub(rest, builder.mul(i, ir.Constant(kind.element, bits)))
    up = builder.shl(words, in_every_lane(builder, above))
    down = in_every_lane(builder, rest)
    return builder.ashr(up, down) if signed else builder.lshr(up, down)


@intrinsic
def add_byte_products(typing: Any, total: Any, words: Any, others: Any) -> Any:
    """Total and, in each lane, the products of the four bytes of a word and those of another.

    words: of uint8. others: of int8.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        total, words, others = arguments
        if BYTE_PRODUCTS:
            kind = ir.FunctionType(total.type, [total.type] * 3)
            name = "llvm.x86.avx512.vpdpbusd.512"
            return builder.call(
                cgutils.get_or_insert_function(builder.module, kind, name), arguments
            )
        for i in range(WORD):
            place = ir.Constant(ir.IntType(32), i)
            one = _part(builder, words, place, 8, signed=False)
            total = builder.add(
                total, builder.mul(one, _part(builder, others, place, 8, signed=True))
            )
        return total

    return INTS(INTS, INTS, INTS), generate


@intrinsic
def to_ints(typing: Any, value: Any) -> Any:
    """Floats that int32 holds, towards zero."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fptosi(arguments[0], context.get_value_type(INTS))

    return INTS(FLOATS), generate


@intrinsic
def to_floats(typing: Any, value: Any) -> Any:
    """Ints as float32, rounded."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.sitofp(arguments[0], context.get_value_type(FLOATS))

    return FLOATS(INTS), generate
