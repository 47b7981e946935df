"""The activations that the kernel applies where it stores, written for vectors of any width.

    gelu        x/2 (1 + erf(x/sqrt 2))                                Hendrycks & Gimpel 2016
    gelu_tanh   x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))          ibid.
    silu        x / (1 + exp(-x))
    relu        max(x, 0)

erf by Abramowitz & Stegun 7.1.26 (error at most 1.5e-7), exp by halving the range to 2^[-1/2, 1/2] and its
Taylor polynomial of degree 6 (relative error at most 2e-7). What is not a number stays so.
"""

from __future__ import annotations

import math

from llvmlite import ir

from sparsity.kernel.code import Code, Value

ERF = (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)
ERF_P = 0.3275911
ROUNDING = 1.5 * 2**23
"""Added to a small number it leaves the nearest integer in the lowest bits."""


def gelu(code: Code, x: Value) -> Value:
    """By erf."""
    b = code.builder
    z = b.fmul(code.intrinsic("llvm.fabs", x.type, [x], _suffix(x)), code.splat(math.sqrt(0.5), x))
    one = code.splat(1.0, x)
    t = b.fdiv(one, code.fma(z, code.splat(ERF_P, x), one))
    polynomial = code.splat(ERF[-1], x)
    for factor in reversed(ERF[:-1]):
        polynomial = code.fma(polynomial, t, code.splat(factor, x))
    tail = b.fmul(b.fmul(polynomial, t), exp(code, b.fneg(b.fmul(z, z))))  # 1 - erf(|x|/sqrt 2)
    half = b.fmul(x, code.splat(0.5, x))
    share = b.select(b.fcmp_ordered("<", x, code.splat(0.0, x)), tail, b.fsub(code.splat(2.0, x), tail))
    return b.fmul(half, share)


def gelu_tanh(code: Code, x: Value) -> Value:
    """By tanh: (1 + tanh u)/2 = 1/(1 + exp(-2u))."""
    b = code.builder
    inner = code.fma(b.fmul(x, x), code.splat(0.044715, x), code.splat(1.0, x))
    return _gated(code, x, b.fmul(b.fmul(x, inner), code.splat(-2 * math.sqrt(2 / math.pi), x)))


def silu(code: Code, x: Value) -> Value:
    """The input times its logistic."""
    return _gated(code, x, code.builder.fneg(x))


def relu(code: Code, x: Value) -> Value:
    """What is not below 0."""
    zero = code.splat(0.0, x)
    return code.builder.select(code.builder.fcmp_ordered("<", x, zero), zero, x)


def _gated(code: Code, x: Value, exponent: Value) -> Value:
    """X / (1 + exp(exponent))."""
    return code.builder.fdiv(x, code.builder.fadd(exp(code, exponent), code.splat(1.0, x)))


def exp(code: Code, x: Value) -> Value:
    """e^x, for x clamped to [-87, 88]."""
    b = code.builder
    for relation, bound in (("<", -87.0), (">", 88.0)):
        limit = code.splat(bound, x)
        x = b.select(b.fcmp_ordered(relation, x, limit), limit, x)
    shifted = b.fadd(b.fmul(x, code.splat(1 / math.log(2), x)), code.splat(ROUNDING, x))
    whole = b.fsub(shifted, code.splat(ROUNDING, x))
    rest = code.fma(whole, code.splat(-0.693359375, x), x)  # ln 2 in two parts, so that nothing is lost
    rest = code.fma(whole, code.splat(0.693359375 - math.log(2), x), rest)
    result = code.splat(1 / math.factorial(6), x)
    for n in range(5, -1, -1):
        result = code.fma(result, rest, code.splat(1 / math.factorial(n), x))
    integers = ir.VectorType(ir.IntType(32), x.type.count)
    power = b.shl(b.bitcast(shifted, integers), ir.Constant(integers, [23] * x.type.count))  # into the exponent's place
    return b.bitcast(b.add(b.bitcast(result, integers), power), x.type)


def _suffix(x: Value) -> str:
    return f"v{x.type.count}f32"


ACTIVATIONS = {"none": None, "gelu": gelu, "gelu_tanh": gelu_tanh, "silu": silu, "relu": relu}
"""By name; their order numbers them for the kernel."""
