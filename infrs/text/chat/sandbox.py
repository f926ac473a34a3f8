"""The Jinja environment of chat templates: that of transformers, in a sandbox.

After `_compile_jinja_template` in transformers' utils/chat_template_utils.py. The sandbox charges each operation before
it runs, and refuses those that `infrs.text.chat.operations` does not list.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import update_wrapper, wraps
from types import GeneratorType
from typing import Any, NoReturn

from jinja2 import TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.ext import Extension
from jinja2.meta import TrackingCodeGenerator
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Joiner, Namespace

from infrs.text.chat import operations
from infrs.text.chat.render_limits import CALL, STEP, Budget, size_of, weigh

_PRINTED = 4  # characters of one in Python's form of a nested text
_MACRO = 8 * STEP  # units of work to call a macro
_PLAIN = frozenset({str, int, float, bool, type(None), list, dict, tuple, Undefined})
_DICT_NAMES = frozenset(dir(dict))
_MAX_INDENTED = 1 << 12  # nested values of JSON that json.dumps writes with an indent; of more, each is charged


def template_environment() -> Sandbox:
    """Return a new environment: trimmed blocks, `break` and `continue`, `tojson`, `raise_exception`, `strftime_now`."""
    extensions = [_Generation, "jinja2.ext.loopcontrols"]
    # Jinja's optimizer evaluates expressions without a clock, in time cubic in their depth.
    return Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions, optimized=False)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with the limits of `infrs.text.chat.render_limits`. Thread-safe."""

    intercepted_binops = frozenset({"*", "**", "%", "+", "-", "/", "//"})

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # jinja2's own
        super().__init__(**options, finalize=self.written)
        self.budget = Budget()
        filters = {**self.filters, "tojson": self._tojson}
        self.filters = {name: self._charged(filters[name], cost) for name, cost in operations.FILTERS.items()}
        self.tests = {name: self._charged(self.tests[name], cost) for name, cost in operations.TESTS.items()}
        del self.globals["lipsum"]  # random Latin of any length
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        names = {"dict": operations.hashed, "namespace": operations.hashed, "strftime_now": operations.date}
        self._functions = {id(value): names.get(name, operations.linear) for name, value in self.globals.items()}

    def variables(self, source: str) -> frozenset[str]:
        """Return the names that a template does not define: `find_undeclared_variables`, without the optimizer."""
        generator = TrackingCodeGenerator(self)
        generator.optimizer = None
        generator.visit(self.parse(source))
        return frozenset(generator.undeclared_identifiers)

    def tick(self, size: int, nodes: int) -> bool:
        """Charge an iteration of a loop or a start of a macro, with the text and the expressions in it."""
        return self.budget.tick(size, nodes)

    def written(self, value: Any) -> Any:  # noqa: ANN401
        """Charge output, and return it."""
        self.budget.make(size_of(value) if isinstance(value, str) else _PRINTED * weigh(value))
        return value

    def made(self, value: Any) -> Any:  # noqa: ANN401
        """Charge a literal of a list, dict or tuple, and return it."""
        self.budget.make(weigh(value))
        return value

    def weighed(self, value: Any) -> Any:  # noqa: ANN401
        """Charge the comparison of a value, and return it."""
        if type(value) is str:
            self.budget.work(len(value))
        else:
            self.budget.visit(value)
        return value

    def searched(self, value: Any) -> Any:  # noqa: ANN401
        """Charge a search in a value, and return it."""
        self.budget.tick()
        (value,) = self._operands((value,))
        return value if isinstance(value, dict) else self.weighed(value)

    def concatenated(self, *parts: Any) -> str:  # noqa: ANN401
        """Return the result of `~`."""
        for part in parts:
            self.written(part)
        return "".join(map(str, parts))

    def sliced(self, value: Any, start: Any, stop: Any, step: Any) -> Any:  # noqa: ANN401
        """Return a slice. It is charged as if it had all elements between its ends."""
        self.budget.tick()
        part = slice(start, stop, step)
        if isinstance(value, str | list | tuple):
            operations.check_integers(start, stop, step)
            self.budget.make(size_of(value) * len(range(*part.indices(len(value)))) // max(len(value), 1))
        return value[part]

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401
        """Return an attribute or an item of a value."""
        if type(obj) is dict and attribute not in _DICT_NAMES:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401
        """Return an item or an attribute of a value."""
        if not isinstance(argument, str | int):
            self.budget.visit(argument)
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401
        """Return whether a template can use an attribute."""
        if isinstance(obj, Namespace | Undefined):
            return super().is_safe_attribute(obj, attr, value)
        kinds = (names for kind, names in operations.ATTRIBUTES.items() if isinstance(obj, kind))
        return attr in operations.methods_of(obj) or any(attr in names for names in kinds)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Evaluate an operator."""
        if operator == "+" and type(left) is type(right) is str:
            self.budget.make(size_of(left) + size_of(right))
            return left + right
        operations.operation(self.budget, operator, left, right)
        return self._made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805
        """Call an object for a template. Mangled parameter names allow keyword arguments of any name."""
        if getattr(__obj, "__self__", None) is __self:  # a call that `rewritten` put in
            return __obj(*args)
        __self.budget.tick()
        if isinstance(__obj, Macro):
            __self.budget.work(_MACRO)
            if __obj.catch_varargs or __obj.catch_kwargs:
                __self.made((args, _own(kwargs)))
        elif not isinstance(__obj, LoopContext | Joiner | Undefined):
            args = __self._operands(args)
            __self._charge_call(__obj, args, _own(kwargs))
        return __self._made(super().call(__context, __obj, *args, **kwargs))

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401
        """Return the sandboxed `format` of a text, which is charged when it is called."""
        wrapped = super().wrap_str_format(value)
        return None if wrapped is None else _Format(value.__self__, wrapped)

    def _charge_call(self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:  # noqa: ANN401
        """Charge the call of a function or method. Raises TemplateError for one that is not listed."""
        owner = getattr(function, "__self__", None)
        cost = operations.methods_of(owner).get(getattr(function, "__name__", ""))
        if cost is not None:
            cost(self.budget, (owner, *args, *kwargs.values()))
        elif id(function) in self._functions:
            for value in args:
                self._functions[id(function)](self.budget, (value,))
            self.made(kwargs)
        else:
            raise TemplateError(f"it calls a {type(function).__name__}, which is no function of templates")

    def _operands(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return operands with lists for iterators. Each element of them is charged."""
        if _PLAIN.issuperset(map(type, values)):
            return values
        if any(isinstance(value, LoopContext) for value in values):
            raise TemplateError("it uses 'loop' as a value")
        return tuple(self.budget.collect(value) if isinstance(value, Iterator) else value for value in values)

    def _made(self, result: Any) -> Any:  # noqa: ANN401
        """Charge the result of an operation, and return it."""
        if isinstance(result, GeneratorType):
            return (value for value in self.budget.collect(result))
        if not isinstance(result, bool):
            self.budget.make(size_of(result))
        return result

    def _charged(self, function: Any, cost: operations.Cost) -> Any:  # noqa: ANN401  # a function
        """Return a filter or test that is charged before it runs."""
        if cost is operations.free:
            return function
        has_context = hasattr(function, "jinja_pass_arg")

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self.budget.work(CALL)
            values = self._operands(args[has_context:])
            cost(self.budget, (*values, *kwargs.values()))
            return self._made(function(*args[:has_context], *values, **kwargs))

        return run

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Return the template's tree with a call of the environment for each operation. Jinja has no public hook."""
        tree = rewritten(super()._parse(source, name, filename))
        tree.set_environment(self)
        return tree

    def _tojson(
        self,
        value: object,
        ensure_ascii: bool = False,
        indent: int | str | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Convert to JSON. Unlike Jinja's filter, keep `<` and quotes unchanged."""
        encoder = json.JSONEncoder(ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
        if indent is None or weigh(value) < _MAX_INDENTED:
            return encoder.encode(value)
        pieces, size = [], 0
        for piece in encoder.iterencode(value):
            pieces.append(piece)
            size += len(piece)
            self.budget.afford(size)
        return "".join(pieces)


def _own(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a call without those that Jinja adds."""
    return {name: value for name, value in arguments.items() if name not in ("_loop_vars", "_block_vars")}


def rewritten(tree: nodes.Template) -> nodes.Template:
    """Return a tree with calls of the environment: a tick in loops and macros, literals, `~`, slices, comparisons.

    Raises TemplateSyntaxError for a statement that reads another template, or that escapes.
    """
    for refused in tree.find_all(tuple(operations.REFUSED_NODES)):
        name = next(name for kind, name in operations.REFUSED_NODES.items() if isinstance(refused, kind))
        raise TemplateSyntaxError(f"{{% {name} %}} is not supported in chat templates", refused.lineno)
    loops = [*tree.find_all(nodes.For)]
    repeated: list[nodes.For | nodes.Macro | nodes.CallBlock] = [*loops, *tree.find_all(nodes.Macro)]
    for node in (*repeated, *tree.find_all(nodes.CallBlock)):
        node.body.insert(0, nodes.ExprStmt(_call("tick", *map(nodes.Const, _in_a_pass(node)))))
    for loop in loops:
        if loop.test is not None:
            loop.test = nodes.And(_call("tick", nodes.Const(0), nodes.Const(0)), loop.test)
    _replace(tree)
    return tree


def _in_a_pass(node: nodes.Node) -> tuple[int, int]:
    """Return the size of the text, and the number of nodes, that one pass of a loop or macro can reach."""
    size = num_nodes = 0
    to_do = [*node.iter_child_nodes()]
    while to_do:
        child = to_do.pop()
        num_nodes += 1
        if isinstance(child, nodes.TemplateData):
            size += size_of(child.data)
        if not isinstance(child, nodes.For | nodes.Macro | nodes.CallBlock):
            to_do += child.iter_child_nodes()
    return size, num_nodes


def _call(name: str, *arguments: nodes.Expr) -> nodes.Call:
    """Return a call of a method of the environment."""
    return nodes.Call(nodes.EnvironmentAttribute(name), [*arguments], [], None, None)


def _replace(node: nodes.Node) -> None:
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [_replaced(item) for item in value])
        else:
            setattr(node, field, _replaced(value))


def _replaced(value: Any) -> Any:  # noqa: ANN401  # a field of a node
    if not isinstance(value, nodes.Node):
        return value
    _replace(value)
    match value:
        case nodes.Concat():
            return _call("concatenated", *value.nodes)
        case nodes.Getitem(arg=nodes.Slice() as part):
            ends = (nodes.Const(None) if end is None else end for end in (part.start, part.stop, part.step))
            return _call("sliced", value.node, *ends)
        case nodes.Compare():
            _weigh_operands(value)
        case nodes.List() | nodes.Dict() | nodes.Tuple(ctx="load"):
            return value if _is_constant(value) else _call("made", value)
    return value


def _weigh_operands(comparison: nodes.Compare) -> None:
    """Let the environment charge a comparison: the shorter operand bounds it, except for a search."""
    left = comparison.expr
    if not _is_constant(left) and not all(_is_constant(operand.expr) for operand in comparison.ops):
        comparison.expr = _call("weighed", left)
    for operand in comparison.ops:
        if not _is_constant(operand.expr):
            operand.expr = _call("searched" if operand.op in ("in", "notin") else "weighed", operand.expr)


def _is_constant(node: nodes.Node) -> bool:
    """Return whether a node is a constant, or a literal of constants."""
    if isinstance(node, nodes.List | nodes.Tuple):
        return all(isinstance(item, nodes.Const) for item in node.items)
    return isinstance(node, nodes.Const)


class _Format:
    """The method `format` of a text."""

    def __init__(self, owner: str, function: Callable[..., str]) -> None:
        self.__self__ = owner
        self._function = function
        update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> str:  # noqa: ANN401  # any value
        return self._function(*args, **kwargs)


class _Generation(Extension):
    """The tag `{% generation %}`, which marks the assistant's text for training; here its body is plain text."""

    tags = {"generation"}  # noqa: RUF012  # declared so by Jinja

    def parse(self, parser: Parser) -> nodes.Node:
        """Parse the body of the tag."""
        line = next(parser.stream).lineno
        return nodes.Scope(parser.parse_statements(("name:endgeneration",), drop_needle=True), lineno=line)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.now().strftime(pattern)
