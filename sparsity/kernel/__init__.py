"""The CPU kernel for sparse weights, written in LLVM's own language from Python: no compiler is needed, only llvmlite."""
