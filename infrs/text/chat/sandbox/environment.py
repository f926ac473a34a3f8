"""The Jinja environment of chat templates: that of transformers, in a sandbox.

After `_compile_jinja_template` in transformers' utils/chat_template_utils.py. The sandbox charges each operation before
it runs, and refuses those that `infrs.text.chat.sandbox.operations` does not list.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache, reduce, update_wrapper, wraps
from io import StringIO
from types import BuiltinMethodType, GeneratorType
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Cycler, Joiner, Namespace

from infrs.text.chat.sandbox import operations
from infrs.text.chat.sandbox.code import DICT_NAMES, Code, rewritten
from infrs.text.chat.sandbox.render_limits import CALL, STEP, Budget, size_of, size_of_texts, weigh

_PRINTED = 4  # characters of one in Python's form of a nested text
_MACRO = 8 * STEP  # units of work to call a macro
_PLAIN = frozenset({str, int, float, bool, type(None), list, dict, tuple, Undefined})
_TEXTS = frozenset({str})
_NOTHING: Mapping[str, operations.Cost] = {}
# The attributes of values that need no wrapper. `format` reads attributes of its arguments.
_DIRECT = {
    kind: {*operations.METHODS.get(kind, ()), *operations.ATTRIBUTES.get(kind, ())} - {"format", "format_map"}
    for kind in (str, list, dict, LoopContext, Cycler)
}
_MAX_INDENTED = 1 << 12  # nested values of JSON that json.dumps writes with an indent; of more, each is charged


def template_environment() -> Sandbox:
    """Return a new environment: trimmed blocks, `break` and `continue`, `tojson`, `raise_exception`, `strftime_now`."""
    extensions = [_Generation, "jinja2.ext.loopcontrols"]
    # Jinja's optimizer evaluates expressions without a clock, in time cubic in their depth.
    return Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions, optimized=False)


class _Rendering(threading.local):
    """The rendering in this thread."""

    def __init__(self) -> None:
        self.budget = Budget()


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with the limits of `infrs.text.chat.sandbox.render_limits`. Thread-safe.

    rendering: what is left of the limits in this thread.
    """

    code_generator_class = Code

    intercepted_binops = frozenset({"*", "**", "%", "+", "-", "/", "//"})

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # jinja2's own
        super().__init__(**options)
        self.rendering = _Rendering()
        filters = {**self.filters, "tojson": self._tojson}
        self.filters = {name: self._charged(filters[name], cost) for name, cost in operations.FILTERS.items()}
        self.tests = {name: self._charged(self.tests[name], cost) for name, cost in operations.TESTS.items()}
        del self.globals["lipsum"]  # random Latin of any length
        self.globals |= {"raise_exception": _raise_exception, "strftime_now": _strftime_now}
        names = {"dict": operations.hashed, "namespace": operations.hashed, "strftime_now": operations.date}
        self._functions = {id(value): names.get(name, operations.linear) for name, value in self.globals.items()}

    def compiled(self, source: str, variables: Mapping[str, Any]) -> tuple[Template, frozenset[str]]:
        """Compile a template that sees `variables`, and return it with the names that it reads but does not define.

        Raises the errors of Jinja and of Python's compiler.
        """
        python = StringIO()
        generator = Code(self, None, None, python, optimized=self.optimized)
        tree = self.parse(source)
        try:
            generator.visit(tree)
        except TemplateSyntaxError:
            self.handle_exception(source)
        code = compile(python.getvalue(), "<template>", "exec")
        template = Template.from_code(self, code, self.make_globals({**variables}))
        return template, frozenset(generator.undeclared)

    def tick(self, nodes: int) -> bool:
        """Charge an iteration of a loop or a start of a macro, with the expressions in it."""
        return self.rendering.budget.tick(nodes)

    def written(self, value: Any) -> str:  # noqa: ANN401
        """Return output as text."""
        self.rendering.budget.make(size_of(value) if isinstance(value, str) else _PRINTED * weigh(value))
        return str(value)

    def concat(self, texts: Iterable[str]) -> str:
        """Return texts joined, such as the pieces of a macro's output."""
        pieces = [*texts]
        self.rendering.budget.make(size_of_texts(pieces))
        return "".join(pieces)

    def made(self, value: Any) -> Any:  # noqa: ANN401
        """Charge a literal of a list, dict or tuple, and return it."""
        self.rendering.budget.make(weigh(value))
        return value

    def weighed(self, value: Any) -> Any:  # noqa: ANN401
        """Charge the comparison of a value, and return it."""
        if type(value) is str:
            self.rendering.budget.work(len(value))
        else:
            self.rendering.budget.visit(value)
        return value

    def searched(self, value: Any) -> Any:  # noqa: ANN401
        """Charge a search in a value, and return it."""
        self.rendering.budget.tick()
        if type(value) is str:
            self.rendering.budget.work(len(value))
            return value
        (value,) = self._operands((value,))
        return value if isinstance(value, dict) else self.weighed(value)

    def concatenated(self, *parts: Any) -> str:  # noqa: ANN401
        """Return the result of `~`."""
        return self.concat(part if type(part) is str else self.written(part) for part in parts)

    def added(self, *operands: Any) -> Any:  # noqa: ANN401
        """Return the result of `+` between operands, from left to right."""
        if _TEXTS.issuperset(map(type, operands)):
            return self.concat(operands)
        return reduce(self._add, operands)

    def _add(self, left: Any, right: Any) -> Any:  # noqa: ANN401
        operations.operation(self.rendering.budget, "+", left, right)
        return self._made(left + right)

    def sliced(self, value: Any, start: Any, stop: Any, step: Any) -> Any:  # noqa: ANN401
        """Return a slice. It is charged as if it had all elements between its ends."""
        self.rendering.budget.tick()
        part = slice(start, stop, step)
        if isinstance(value, str | list | tuple):
            operations.check_integers(start, stop, step)
            self.rendering.budget.make(size_of(value) * len(range(*part.indices(len(value)))) // max(len(value), 1))
        return value[part]

    def getattr(self, obj: Any, attribute: str) -> Any:  # noqa: ANN401
        """Return an attribute or an item of a value."""
        if type(obj) is dict and attribute not in DICT_NAMES:
            return obj[attribute] if attribute in obj else self.undefined(obj=obj, name=attribute)
        if attribute in _DIRECT.get(type(obj), ()):
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:  # noqa: ANN401
        """Return an item or an attribute of a value."""
        if not isinstance(argument, str | int):
            self.rendering.budget.visit(argument)
        return super().getitem(obj, argument)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:  # noqa: ANN401
        """Return whether a template can use an attribute."""
        if isinstance(obj, Namespace | Undefined):
            return super().is_safe_attribute(obj, attr, value)
        return _is_allowed(type(obj), attr)  # type: ignore[arg-type]  # a type has a hash

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Evaluate an operator."""
        operations.operation(self.rendering.budget, operator, left, right)
        return self._made(super().call_binop(context, operator, left, right))

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805
        """Call an object for a template. Mangled parameter names allow keyword arguments of any name."""
        budget = __self.rendering.budget
        budget.tick()
        if type(__obj) is BuiltinMethodType:
            cost = operations.METHODS.get(type(__obj.__self__), _NOTHING).get(__obj.__name__)
            if cost is not None:
                args, kwargs = __self._operands(args), _own(kwargs)
                cost(budget, (__obj.__self__, *args, *kwargs.values()))
                return __self._made(__obj(*args, **kwargs))
        if isinstance(__obj, Macro):
            budget.work(_MACRO)
            kwargs = _own(kwargs)
            if __obj.catch_varargs or __obj.catch_kwargs:
                __self.made((args, kwargs))
            return __obj(__context.eval_ctx, *args, **kwargs)  # charged by `concat`
        if not isinstance(__obj, LoopContext | Joiner | Undefined):
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
            cost(self.rendering.budget, (owner, *args, *kwargs.values()))
        elif id(function) in self._functions:
            for value in args:
                self._functions[id(function)](self.rendering.budget, (value,))
            self.made(kwargs)
        else:
            raise TemplateError(f"it calls a {type(function).__name__}, which is no function of templates")

    def _operands(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return operands with lists for iterators. Each element of them is charged."""
        if _PLAIN.issuperset(map(type, values)):
            return values
        if any(isinstance(value, LoopContext) for value in values):
            raise TemplateError("it uses 'loop' as a value")
        return tuple(self.rendering.budget.collect(value) if isinstance(value, Iterator) else value for value in values)

    def _made(self, result: Any) -> Any:  # noqa: ANN401
        """Charge the result of an operation, and return it."""
        if type(result) is str:
            self.rendering.budget.make(size_of(result))
        elif isinstance(result, GeneratorType):
            return (value for value in self.rendering.budget.collect(result))
        elif not isinstance(result, bool):
            self.rendering.budget.make(size_of(result))
        return result

    def _charged(self, function: Any, cost: operations.Cost) -> Any:  # noqa: ANN401  # a function
        """Return a filter or test that is charged before it runs."""
        if cost is operations.free:
            return function
        has_context = hasattr(function, "jinja_pass_arg")

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self.rendering.budget.work(CALL)
            values = self._operands(args[has_context:])
            cost(self.rendering.budget, (*values, *kwargs.values()))
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
            self.rendering.budget.afford(size)
        return "".join(pieces)


@lru_cache(maxsize=1024)
def _is_allowed(kind: type, name: str) -> bool:
    """Return whether a template can use an attribute of values of a type."""
    tables = (*operations.METHODS.items(), *operations.ATTRIBUTES.items())
    return any(issubclass(kind, owner) and name in names for owner, names in tables)


def _own(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keyword arguments of a call without those that Jinja adds."""
    return {name: value for name, value in arguments.items() if name not in ("_loop_vars", "_block_vars")}


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
