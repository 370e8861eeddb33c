"""Products of rows in whole vectors, from registers: `dot(cells, start, centroids, start, length)`.

They are no functions: numba would count the references to their arrays at each call, and all
threads share the counters.
"""

from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from pipeline.engines.cpu.simd import FLOATS, WIDTH, element, fused, sum_by_halves

_CHAINS = 4  # sums of a product that do not wait for each other
_LOOK = 4  # vectors of a square between looks at its limit


@intrinsic
def dot(typing: Any, one: Any, at: Any, two: Any, there: Any, length: Any) -> Any:
    """Product of one[at : at + length] and two[there : there + length], float32, whole vectors."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, c = (element(context, builder, signature, arguments, i) for i in (0, 2))
        length, kind = arguments[4], arguments[4].type
        chains = [ir.Constant(kind, chain * WIDTH) for chain in range(_CHAINS)]
        many = ir.Constant(kind, _CHAINS * WIDTH)
        whole = builder.sub(length, builder.urem(length, many))
        totals = [_zeros(context, builder) for _ in chains]
        with cgutils.for_range_slice(builder, ir.Constant(kind, 0), whole, many, inc=True) as (
            d,
            _,
        ):
            for total, chain in zip(totals, chains, strict=True):
                place = builder.add(d, chain)
                _add_product(context, builder, x, place, c, place, total)
        one = ir.Constant(kind, WIDTH)
        with cgutils.for_range_slice(builder, whole, length, one, inc=True) as (d, _):
            _add_product(context, builder, x, d, c, d, totals[0])
        sums = [builder.load(total) for total in totals]
        while len(sums) > 1:
            sums = [builder.fadd(*pair) for pair in zip(sums[::2], sums[1::2], strict=True)]
        return sum_by_halves(builder, sums[0])

    floats = types.float32
    return floats(one, types.intp, two, types.intp, types.intp), generate


@intrinsic
def four_dots(typing: Any, one: Any, at: Any, two: Any, there: Any, length: Any) -> Any:
    """Products of one[at : at + length] and four such stretches of `two`, one after another."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, c = (element(context, builder, signature, arguments, i) for i in (0, 2))
        length, kind = arguments[4], arguments[4].type
        totals = [_zeros(context, builder) for _ in range(4)]
        begins = [builder.mul(length, ir.Constant(kind, i)) for i in range(4)]
        zero, one = ir.Constant(kind, 0), ir.Constant(kind, WIDTH)
        with cgutils.for_range_slice(builder, zero, length, one, inc=True) as (d, _):
            for total, begin in zip(totals, begins, strict=True):
                _add_product(context, builder, x, d, c, builder.add(begin, d), total)
        sums = [sum_by_halves(builder, builder.load(total)) for total in totals]
        return context.make_tuple(builder, signature.return_type, sums)

    four = types.UniTuple(types.float32, 4)
    return four(one, types.intp, two, types.intp, types.intp), generate


@intrinsic
def square_below(
    typing: Any, one: Any, at: Any, two: Any, there: Any, length: Any, limit: Any
) -> Any:
    """Squared distance of one[at : at + length] and two[there : there + length], float32, whole
    vectors; where it is beyond the limit, anything beyond it.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        x, c = (element(context, builder, signature, arguments, i) for i in (0, 2))
        length, kind, limit = arguments[4], arguments[4].type, arguments[5]
        total, number = _zeros(context, builder), partial(ir.Constant, kind)
        with cgutils.for_range(builder, builder.udiv(length, number(WIDTH))) as loop:
            place = builder.mul(loop.index, number(WIDTH))
            difference = builder.fsub(*_vectors(context, builder, (x, place), (c, place)))
            found = fused(builder, difference, difference, builder.load(total))
            builder.store(found, total)
            turn = builder.urem(loop.index, number(_LOOK))
            with builder.if_then(builder.icmp_unsigned("==", turn, number(_LOOK - 1))):
                sofar = sum_by_halves(builder, found)
                with builder.if_then(builder.fcmp_ordered(">", sofar, limit)):
                    loop.do_break()
        return sum_by_halves(builder, builder.load(total))

    floats = types.float32
    return floats(one, types.intp, two, types.intp, types.intp, floats), generate


def _zeros(context: Any, builder: Any) -> Any:
    """A vector that sums are added up in."""
    vector = context.get_value_type(FLOATS)
    return cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * WIDTH))


def _add_product(
    context: Any, builder: Any, x: Any, at: Any, c: Any, there: Any, total: Any
) -> None:
    """Add the product of the vectors at these places."""
    found = _vectors(context, builder, (x, at), (c, there))
    builder.store(fused(builder, *found, builder.load(total)), total)


def _vectors(context: Any, builder: Any, *places: tuple[Any, Any]) -> list[Any]:
    """Those that start so far behind these addresses."""
    pointer = context.get_value_type(FLOATS).as_pointer()
    return [
        builder.load(builder.bitcast(builder.gep(start, [place]), pointer), align=4)
        for start, place in places
    ]
