"""How kernels are compiled, and vectors of 16 rows as values in them: `fma(load(tile, 0), c, s)`.

Numba vectorises loops only where LLVM proves it safe, which it seldom does for the loops of a
distance. These few functions map to LLVM's vector operations one to one; LLVM splits the vectors to
what the processor has (AVX-512, AVX2, NEON).
"""

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypeVar, overload

from llvmlite import ir
from numba import njit, types
from numba.core import caching, cgutils
from numba.extending import intrinsic, models, register_model
from numba.np import arrayobj

from pipeline.runtime.kernel_cache import kernel_folder, sources_digest

Function = TypeVar("Function", bound=Callable[..., Any])
# Its types lack these options. Without wrappers that nobody calls: a fifth of the time of a first
# run.
_compile: Any = partial(njit, error_model="numpy", no_cfunc_wrapper=True)


_DAMAGED = (OSError, EOFError, UnpicklingError)  # files, as a full disk may leave them


class _Locator(caching.UserWideCacheLocator):
    """Kernels lie where this project puts them."""

    def get_cache_path(self) -> str:
        return str(Path(kernel_folder() or "", Path(self._py_file).parent.name))


class _Files(caching.CompileResultCacheImpl):
    """What numba writes for one kernel."""

    _locator_classes = [_Locator]  # noqa: RUF012  # numba's


class _KernelCache(caching.FunctionCache):
    """Kernels of these very sources; one that cannot be read or written stays in memory."""

    _impl_class = _Files

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(*_DAMAGED):
            return super().load_overload(sig, target_context)
        with suppress(OSError):
            self.flush()
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(*_DAMAGED):
            super().save_overload(sig, data)

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        """Also where NUMBA_CACHE_LOCATOR_CLASSES has them lie elsewhere."""
        return sources_digest(), super()._index_key(sig, codegen)


def kernel(function: Function) -> Function:
    """Compile what Python calls; it is kept on disk, where there is a place."""
    compiled: Any = _compile(nogil=True)(function)
    if kernel_folder():
        compiled._cache = _KernelCache(function)
    return compiled


@overload
def inner(function: Function) -> Function: ...
@overload
def inner(*, allocates: bool = False, **options: Any) -> Callable[[Function], Function]: ...
def inner(function: Any = None, *, allocates: bool = False, **options: Any) -> Any:
    """Compile what kernels call.

    allocates: whether it makes arrays. If not, numba does not count references to those that it is
    given: all threads share the counters, and would wait for them at each call. options: of the
    compiler.
    """
    compiling = _compile(no_cpython_wrapper=True, _nrt=allocates, **options)
    return compiling if function is None else compiling(function)


WIDTH = 16  # lanes of a vector

_ELEMENTS = {"float32": ir.FloatType(), "int32": ir.IntType(32), "bool": ir.IntType(1)}


class Lanes(types.Type):
    """Numba's type of a vector of WIDTH elements."""

    def __init__(self, element: str) -> None:
        self.element = element
        super().__init__(name=f"Lanes({element})")


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    """Held in a vector register."""

    def __init__(self, manager: Any, lanes: Lanes) -> None:
        super().__init__(manager, lanes, ir.VectorType(_ELEMENTS[lanes.element], WIDTH))


FLOATS, INTS, _MASK = Lanes("float32"), Lanes("int32"), Lanes("bool")
_OF_SCALAR = {types.float32: FLOATS, types.int32: INTS}


def element(context: Any, builder: Any, signature: Any, arguments: Any, i: int = 0) -> Any:
    """Code for the address in array i, contiguous, of the element that the next argument tells."""
    array = arrayobj.make_array(signature.args[i])(context, builder, arguments[i])
    return builder.gep(array.data, [arguments[i + 1]], inbounds=True)


def _address(context: Any, builder: Any, signature: Any, arguments: Any, vector: Any) -> Any:
    """Of the element at which a vector starts."""
    start = element(context, builder, signature, arguments)
    return builder.bitcast(start, vector.as_pointer())


def fused(builder: Any, a: Any, b: Any, c: Any) -> Any:
    """Code for a · b + c of vectors, rounded once."""
    return _called(builder, "fma", [a, b, c])


def _called(builder: Any, name: str, vectors: list[Any]) -> Any:
    """Code for a function of LLVM of as many vectors."""
    kind = ir.FunctionType(vectors[0].type, [vector.type for vector in vectors])
    function = cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}.v{WIDTH}f32")
    return builder.call(function, vectors)


@intrinsic
def load(typing: Any, array: Any, start: Any) -> Any:
    """array[start : start + WIDTH], float32 or int32."""
    lanes = _OF_SCALAR[array.dtype]

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        vector = context.get_value_type(lanes)
        return builder.load(_address(context, builder, signature, arguments, vector), align=4)

    return lanes(array, types.intp), generate


@intrinsic
def store(typing: Any, array: Any, start: Any, value: Any) -> Any:
    """array[start : start + WIDTH] = value."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        address = _address(context, builder, signature, arguments, arguments[2].type)
        builder.store(arguments[2], address, align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, value), generate


def in_every_lane(builder: Any, value: Any) -> Any:
    """Code for a vector of one value."""
    undefined = ir.Constant(ir.VectorType(value.type, WIDTH), ir.Undefined)
    first = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
    return builder.shuffle_vector(first, undefined, zeros)


@intrinsic
def broadcast(typing: Any, value: Any) -> Any:
    """The same number in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return in_every_lane(builder, arguments[0])

    return _OF_SCALAR[value](value), generate


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """A · b + c, rounded once."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return fused(builder, *arguments)

    return FLOATS(FLOATS, FLOATS, FLOATS), generate


@intrinsic
def sub(typing: Any, a: Any, b: Any) -> Any:
    """A − b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.fsub(*arguments)

    return FLOATS(FLOATS, FLOATS), generate


@intrinsic
def root(typing: Any, a: Any) -> Any:
    """√a."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _called(builder, "sqrt", arguments)

    return FLOATS(FLOATS), generate


@intrinsic
def lane_sum(typing: Any, a: Any) -> Any:
    """Sum over the lanes, by halves."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return sum_by_halves(builder, arguments[0])

    return types.float32(FLOATS), generate


@intrinsic
def less(typing: Any, a: Any, b: Any) -> Any:
    """A < b in each lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return (builder.icmp_signed if a == INTS else builder.fcmp_ordered)("<", *arguments)

    return _MASK(a, a), generate


@intrinsic
def select(typing: Any, mask: Any, a: Any, b: Any) -> Any:
    """In each lane a where the mask is true, else b."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.select(*arguments)

    return a(_MASK, a, a), generate


@intrinsic
def all_lanes(typing: Any, mask: Any) -> Any:
    """Whether the mask is true in every lane."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(WIDTH))
        return builder.icmp_unsigned("==", bits, ir.Constant(ir.IntType(WIDTH), (1 << WIDTH) - 1))

    return types.boolean(_MASK), generate


@intrinsic
def mask_bits(typing: Any, mask: Any) -> Any:
    """The lanes in which the mask is true, as bits of an int32."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        bits = builder.bitcast(arguments[0], ir.IntType(WIDTH))
        return builder.zext(bits, ir.IntType(32))

    return types.int32(_MASK), generate


@intrinsic
def first_bit(typing: Any, bits: Any) -> Any:
    """Place of the lowest bit that is set in an int32; there is one."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int32(types.int32), generate


@intrinsic
def prefetch(typing: Any, array: Any, start: Any) -> Any:
    """Have the cache line of array[start] on its way; array is flat and contiguous."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte = ir.IntType(8)
        address = _address(context, builder, signature, arguments, byte)
        number = ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte.as_pointer(), number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        read, keep, data = (ir.Constant(number, value) for value in (0, 3, 1))
        builder.call(function, [address, read, keep, data])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


def sum_by_halves(builder: Any, vector: Any) -> Any:
    """Code for the sum over the lanes, by halves: its rounding is the same on every processor."""
    half = WIDTH // 2
    while half:
        mask = [lane + half if lane < half else lane for lane in range(WIDTH)]
        places = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), mask)
        undefined = ir.Constant(vector.type, ir.Undefined)
        vector = builder.fadd(vector, builder.shuffle_vector(vector, undefined, places))
        half //= 2
    return builder.extract_element(vector, ir.Constant(ir.IntType(32), 0))
