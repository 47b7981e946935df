"""The whole kernel as one LLVM module: tiles in, panels, activation, tiles out, on any number of threads.

    linear              y = act(x W' + b)
    feed_forward        y = act(x U' + c) D' + b, hidden values never leaving the cache

A task is a number; threads take the next one from a counter until none is left. With enough tiles of
tokens, a task is a tile. With few, tiles are first turned on their side by all threads, and a task is
a panel row of one tile.
"""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from sparsity.kernel import tiles
from sparsity.kernel.activations import ACTIVATIONS
from sparsity.kernel.code import INT, POINTER, Code, Number, Value
from sparsity.kernel.layout import BUNDLE, HEADER
from sparsity.kernel.product import Variant, write_panel
from sparsity.kernel.single import write_single_panel

SLACK = 16
"""Rows (and features) beyond the last that a tile has room for: vectors are moved whole."""
CHUNK = 128
"""Features that one task turns on their side."""
ARGUMENTS = ("x", "x_stride", "y", "y_stride", "tokens", "packed", "second", "activation")
"""Of both entry points, then `scratch`, `scratch_each` (bytes for a thread) and `threads`."""
NEXT = len(ARGUMENTS) + 2
"""Where the context holds the next task; after it, the next thread's number, and the number of tasks."""


class Packed:
    """A packed weight, as code sees it."""

    def __init__(self, code: Code, pointer: Value, variant: Variant) -> None:
        self.code, self.pointer, self.variant = code, pointer, variant
        numbers = [code.load_int(pointer, n) for n in range(HEADER)]
        self.rows, self.columns, _, self.panel_rows, self.panel_columns = numbers[:5]
        self.starts, self.lengths, self.order, self.column_bytes, self.values, self.bias = (
            code.at(pointer, offset, ir.IntType(8)) for offset in numbers[5:]
        )
        self.row_panels = code.blocks(self.rows, self.panel_rows)
        self.column_panels = code.blocks(self.columns, self.panel_columns)
        self.bundles = code.builder.udiv(self.panel_rows, code.int(BUNDLE))

    def add_product(
        self, panel: ir.Function, row_panel: Number, columns: tuple[Number, Number], tile: Value, output: Value
    ) -> None:
        """Output += some column panels, from the first to before the last, of a panel row x the tile.

        The tile begins with the first one's columns.
        """
        code, slots = self.code, BUNDLE // self.variant.block_rows
        first, last = columns
        bias = code.at(self.bias, code.mul(row_panel, self.panel_rows))
        with code.loop(first, last) as each:
            number = code.add(code.mul(row_panel, self.column_panels), each.index)
            start = code.load_int(self.starts, number, 32)
            bundle = code.mul(number, self.bundles)
            begin = code.mul(code.mul(code.sub(each.index, first), self.panel_columns), self.variant.tokens)
            code.call(
                panel,
                code.at(self.column_bytes, code.mul(start, slots), ir.IntType(8)),
                code.at(self.values, code.mul(start, BUNDLE)),
                code.at(self.lengths, bundle, ir.IntType(8)),
                code.at(self.order, code.mul(bundle, slots), ir.IntType(16)),
                self.bundles,
                code.at(tile, begin),
                output,
                bias,
            )


class Program:
    """Writes one variant of the kernel into a module."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.module = ir.Module(f"packed_{variant.tokens}_{variant.block_rows}")
        self.parallel = self._function("GOMP_parallel", [POINTER, POINTER, ir.IntType(32), ir.IntType(32)], body=False)
        self.take = self._function("take", [POINTER, INT, INT, INT, POINTER])
        self.give = self._function("give", [POINTER, INT, INT, POINTER, INT])
        kinds = [POINTER, POINTER, POINTER, POINTER, INT, POINTER, POINTER, POINTER]
        self.fresh, self.adding = self._function("fresh_panel", kinds), self._function("adding_panel", kinds)
        self.finish = self._function("finish", [POINTER, INT, INT])
        tiles.write_take(self.take, variant.lanes, variant.tokens)
        tiles.write_give(self.give, variant.lanes, variant.tokens)
        write = write_single_panel if variant.tokens == 1 else write_panel
        write(self.fresh, variant, fresh=True)
        write(self.adding, variant, fresh=False)
        self._write_finish()
        by_tile = self._worker("linear_by_tile", self._linear_tile)
        taking = self._worker("take_by_chunk", self._take_chunk)
        by_panel = self._worker("linear_by_panel", self._linear_panel)
        pair_by_tile = self._worker("pair_by_tile", self._pair_tile)
        self._entry("linear", by_tile, (taking, by_panel))
        self._entry("feed_forward", pair_by_tile, None)

    def _function(self, name: str, arguments: list[ir.Type], body: bool = True) -> ir.Function:
        function = ir.Function(self.module, ir.FunctionType(ir.VoidType(), arguments), name)
        if body:
            function.linkage = "internal"
        return function

    def _write_finish(self) -> None:
        """`(values, count, activation)`: the activation of so many numbers, in place, whole vectors."""
        code, lanes = Code(self.finish), self.variant.wide
        values, count, kind = self.finish.args
        after = self.finish.append_basic_block("done")
        choice = code.builder.switch(kind, after)
        for number, write in enumerate(ACTIVATIONS.values()):
            if write is None:
                continue
            block = self.finish.append_basic_block(write.__name__)
            choice.add_case(INT(number), block)
            code.builder.position_at_end(block)
            with code.loop(0, count, lanes) as at:
                code.store(write(code, code.load(values, at.index, lanes)), values, at.index)
            code.builder.branch(after)
        code.builder.position_at_end(after)
        code.builder.ret_void()

    def _worker(self, name: str, task: Callable[[Code, dict[str, Value], Value, Value], None]) -> ir.Function:
        """`(context)`: tasks until none is left. `task` is given the arguments, its number and the thread's scratch."""
        function = self._function(name, [POINTER])
        code = Code(function)
        (context,) = function.args
        names = [*ARGUMENTS, "scratch", "scratch_each"]
        pointers = {"x", "y", "packed", "second", "scratch"}
        arguments = {}
        for n, each in enumerate(names):
            value = code.load_int(context, n)
            arguments[each] = code.builder.inttoptr(value, POINTER) if each in pointers else value
        arguments["threads"] = code.load_int(context, NEXT + 3)
        thread = code.builder.atomic_rmw("add", code.at(context, NEXT + 1, INT), code.int(1), "monotonic")
        own = code.at(arguments["scratch"], code.mul(thread, arguments["scratch_each"]), ir.IntType(8))
        tasks = code.load_int(context, NEXT + 2)
        with code.loop(0, tasks):
            number = code.builder.atomic_rmw("add", code.at(context, NEXT, INT), code.int(1), "monotonic")
            with code.builder.if_then(code.below(number, tasks)):
                task(code, arguments, number, own)
        code.builder.ret_void()
        return function

    def _tile(self, code: Code, arguments: dict[str, Value], number: Value) -> tuple[Value, Value, Value]:
        """(first token of tile `number`, where it begins in x, how many tokens it has)."""
        first = code.mul(number, self.variant.tokens)
        count = code.smaller(code.sub(arguments["tokens"], first), self.variant.tokens)
        return first, code.at(arguments["x"], code.mul(first, arguments["x_stride"])), count

    def _padded(self, code: Code, features: Value) -> Value:
        """Numbers that a tile of so many features has room for."""
        return code.mul(code.add(features, SLACK), self.variant.tokens)

    def _out(self, code: Code, arguments: dict[str, Value], first: Value, feature: Number) -> Value:
        return code.at(arguments["y"], code.add(code.mul(first, arguments["y_stride"]), feature))

    def _rows_of(self, code: Code, packed: Packed, row_panel: Value) -> tuple[Value, Value]:
        """(first row, number of rows) of a panel row."""
        first = code.mul(row_panel, packed.panel_rows)
        return first, code.smaller(code.sub(packed.rows, first), packed.panel_rows)

    def _panel_row(
        self, code: Code, packed: Packed, arguments: dict[str, Value], row_panel: Value, tile: Value, output: Value
    ) -> tuple[Value, Value]:
        """act(bias + W x) of a panel row in `output`; (first row, number of rows)."""
        first, rows = self._rows_of(code, packed, row_panel)
        rest = code.at(tile, code.mul(packed.panel_columns, self.variant.tokens))
        packed.add_product(self.fresh, row_panel, (0, 1), tile, output)
        packed.add_product(self.adding, row_panel, (1, packed.column_panels), rest, output)
        code.call(self.finish, output, code.mul(rows, self.variant.tokens), arguments["activation"])
        return first, rows

    def _linear_tile(self, code: Code, arguments: dict[str, Value], number: Value, own: Value) -> None:
        """One tile, all rows."""
        packed = Packed(code, arguments["packed"], self.variant)
        token, source, count = self._tile(code, arguments, number)
        tile, output = own, code.at(own, self._padded(code, packed.columns))
        if self.variant.tokens == 1:  # on its side already
            tile = source
        else:
            code.call(self.take, source, arguments["x_stride"], count, packed.columns, tile)
        with code.loop(0, packed.row_panels) as row_panel:
            first, rows = self._panel_row(code, packed, arguments, row_panel.index, tile, output)
            code.call(self.give, output, rows, count, self._out(code, arguments, token, first), arguments["y_stride"])

    def _take_chunk(self, code: Code, arguments: dict[str, Value], number: Value, own: Value) -> None:
        """Some features of one tile, turned on their side for all threads."""
        del own
        packed = Packed(code, arguments["packed"], self.variant)
        chunks = code.blocks(packed.columns, CHUNK)
        tile = code.builder.udiv(number, chunks)
        begin = code.mul(code.builder.urem(number, chunks), CHUNK)
        _, source, count = self._tile(code, arguments, tile)
        features = code.smaller(code.sub(packed.columns, begin), CHUNK)
        place = code.add(code.mul(tile, self._padded(code, packed.columns)), code.mul(begin, self.variant.tokens))
        target = code.at(self._shared(code, arguments), place)
        code.call(self.take, code.at(source, begin), arguments["x_stride"], count, features, target)

    def _linear_panel(self, code: Code, arguments: dict[str, Value], number: Value, own: Value) -> None:
        """One panel row of one tile."""
        packed = Packed(code, arguments["packed"], self.variant)
        tile, row_panel = (getattr(code.builder, d)(number, packed.row_panels) for d in ("udiv", "urem"))
        token, source, count = self._tile(code, arguments, tile)
        turned = code.at(self._shared(code, arguments), code.mul(tile, self._padded(code, packed.columns)))
        if self.variant.tokens == 1:
            turned = source
        first, rows = self._panel_row(code, packed, arguments, row_panel, turned, own)
        code.call(self.give, own, rows, count, self._out(code, arguments, token, first), arguments["y_stride"])

    def _shared(self, code: Code, arguments: dict[str, Value]) -> Value:
        """The scratch memory that all threads see, after their own."""
        each = arguments["scratch_each"]
        return code.at(arguments["scratch"], code.mul(each, arguments["threads"]), ir.IntType(8))

    def _pair_tile(self, code: Code, arguments: dict[str, Value], number: Value, own: Value) -> None:
        """One tile through both matrices, a panel row of hidden values at a time."""
        up = Packed(code, arguments["packed"], self.variant)
        down = Packed(code, arguments["second"], self.variant)
        token, source, count = self._tile(code, arguments, number)
        hidden = code.at(own, self._padded(code, up.columns))
        output = code.at(hidden, self._padded(code, up.panel_rows))
        code.call(self.take, source, arguments["x_stride"], count, up.columns, own)
        panels = code.blocks(up.panel_rows, down.panel_columns)  # of `down`, that a panel row of `up` feeds
        with code.loop(0, up.row_panels) as row_panel:
            self._panel_row(code, up, arguments, row_panel.index, own, hidden)
            first = code.mul(row_panel.index, panels)
            last = code.smaller(code.add(first, panels), down.column_panels)
            at_first = code.builder.icmp_unsigned("==", row_panel.index, code.int(0))
            with code.loop(0, down.row_panels) as under:
                row = code.mul(under.index, down.panel_rows)
                target = code.at(output, code.mul(row, self.variant.tokens))
                second = code.smaller(code.add(first, code.builder.zext(at_first, INT)), last)
                rest = code.at(
                    hidden, code.mul(code.mul(down.panel_columns, self.variant.tokens), code.sub(second, first))
                )
                down.add_product(self.fresh, under.index, (first, second), hidden, target)
                down.add_product(self.adding, under.index, (second, last), rest, target)
        y = self._out(code, arguments, token, 0)
        code.call(self.give, output, down.rows, count, y, arguments["y_stride"])

    def _entry(self, name: str, by_tile: ir.Function, by_panel: tuple[ir.Function, ir.Function] | None) -> None:
        """`(context)`, of which the caller fills all but the tasks; the last is whether to go by panels."""
        function = self._function(name, [POINTER])
        function.linkage = "external"
        code = Code(function)
        (context,) = function.args
        threads = code.load_int(context, NEXT + 3)
        tiles_ = code.blocks(code.load_int(context, ARGUMENTS.index("tokens")), self.variant.tokens)

        def run(worker: ir.Function, tasks: Value) -> None:
            for n, value in enumerate((code.int(0), code.int(0), tasks)):
                code.store(value, code.at(context, NEXT + n, INT), 0)
            with code.builder.if_else(code.below(threads, 2)) as (alone, together):
                with alone:
                    code.call(worker, context)
                with together:
                    count = code.builder.trunc(threads, ir.IntType(32))
                    code.builder.call(self.parallel, [worker, context, count, ir.IntType(32)(0)])

        if by_panel is None:
            run(by_tile, tiles_)
            code.builder.ret_void()
            return
        pointer = code.builder.inttoptr(code.load_int(context, ARGUMENTS.index("packed")), POINTER)
        packed = Packed(code, pointer, self.variant)
        with code.builder.if_else(code.below(0, code.load_int(context, NEXT + 4))) as (few, many):
            with few:
                if self.variant.tokens > 1:
                    run(by_panel[0], code.mul(tiles_, code.blocks(packed.columns, CHUNK)))
                run(by_panel[1], code.mul(tiles_, packed.row_panels))
            with many:
                run(by_tile, tiles_)
        code.builder.ret_void()
