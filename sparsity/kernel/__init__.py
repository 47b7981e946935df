"""The CPU kernel for sparse weights, written in LLVM's language from Python: it needs llvmlite and no compiler."""
