"""The Jinja environment of chat templates: that of transformers, in a sandbox.

After `_compile_jinja_template` in transformers' utils/chat_template_utils.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension
from jinja2.meta import TrackingCodeGenerator
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from infrs.text.chat.render_limits import Budget, check_percent, check_product, estimate, length


def template_environment() -> Sandbox:
    """Return a new environment: trimmed blocks, `break` and `continue`, `tojson`, `raise_exception`, `strftime_now`."""
    extensions = [_Generation, "jinja2.ext.loopcontrols"]
    # Jinja's optimizer evaluates expressions without a clock, in time cubic in their depth.
    environment = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=extensions, optimized=False)
    environment.filters["tojson"] = environment.bounded("tojson", _tojson)
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox with the limits of `infrs.text.chat.render_limits`. Thread-safe."""

    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self, **options: Any) -> None:  # noqa: ANN401  # jinja2's own
        super().__init__(**options, finalize=self.made)
        self.budget = Budget()
        self.filters = {name: self.bounded(name, function) for name, function in self.filters.items()}
        del self.globals["lipsum"]  # random Latin of any length

    def variables(self, source: str) -> frozenset[str]:
        """Return the names that a template does not define: `find_undeclared_variables`, without the optimizer."""
        generator = TrackingCodeGenerator(self)
        generator.optimizer = None
        generator.visit(self.parse(source))
        return frozenset(generator.undeclared_identifiers)

    def tick(self) -> bool:
        """Check the time, in each loop iteration and at each start of a macro."""
        return self.budget.tick()

    def made(self, value: Any) -> Any:  # noqa: ANN401
        """Charge a value, such as a list literal or output, and return it."""
        self.budget.spend_all(value)
        return value

    def concatenated(self, *parts: Any) -> str:  # noqa: ANN401
        """Return the result of `~`."""
        self.budget.spend_all(parts)
        return "".join(map(str, parts))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:  # noqa: ANN401
        """Evaluate an operator. Raises TemplateError for powers and for `%` formatting with a large width."""
        if operator == "**":
            raise TemplateError("'**' could make too large a value here")
        if operator == "%" and isinstance(left, str):
            self.budget.afford(check_percent(left, right))
        if operator == "*":
            self.budget.afford(check_product(left, right))
        result = super().call_binop(context, operator, left, right)
        self.budget.spend(length(result))
        return result

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401, N805
        """Call an object for a template. Mangled parameter names allow keyword arguments of any name."""
        __self.tick()
        owner = getattr(__obj, "__self__", None)
        if isinstance(owner, str | bytes | int):
            __self.budget.afford(estimate(__obj.__name__, (owner, *args, *kwargs.values())))
        elif __obj in (dict, Namespace) or getattr(__obj, "catch_varargs", False) or getattr(__obj, "catch_kwargs", 0):
            __self.made((args, kwargs))
        result = super().call(__context, __obj, *args, **kwargs)
        __self.budget.spend(length(result))
        return result

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:  # noqa: ANN401
        """Return the sandboxed `format` of a text. Raises TemplateError for a wide format."""
        wrapped = super().wrap_str_format(value)
        if wrapped is not None:
            estimate("format", [value.__self__])
        return wrapped

    def bounded(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a filter that is estimated before it runs and charged after it."""

        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            self.tick()
            values = args[1:] if hasattr(function, "jinja_pass_arg") else args
            self.budget.afford(estimate(name, (*values, *kwargs.values())))
            result = function(*args, **kwargs)
            self.budget.spend(length(result))
            return result

        return run

    def _parse(self, source: str, name: str | None, filename: str | None) -> nodes.Template:
        """Return the template's tree with a tick in each loop and macro. Jinja has no public hook for this."""
        tree = super()._parse(source, name, filename)
        for loop in tree.find_all(nodes.For):
            loop.body.insert(0, nodes.ExprStmt(_own("tick")))
            if loop.test is not None:
                loop.test = nodes.And(_own("tick"), loop.test)
        for macro in tree.find_all(nodes.Macro):
            macro.body.insert(0, nodes.ExprStmt(_own("tick")))
        _replace(tree)
        tree.set_environment(self)
        return tree


def _own(name: str, *arguments: nodes.Expr) -> nodes.Call:
    """Return a call of a method of the environment."""
    return nodes.Call(nodes.EnvironmentAttribute(name), [*arguments], [], None, None)


def _replace(node: nodes.Node) -> None:
    """Let the environment evaluate `~` and the literals of lists, dicts and tuples."""
    for field, value in node.iter_fields():
        if isinstance(value, list):
            setattr(node, field, [_replaced(item) for item in value])
        else:
            setattr(node, field, _replaced(value))


def _replaced(value: Any) -> Any:  # noqa: ANN401  # a field of a node
    if not isinstance(value, nodes.Node):
        return value
    _replace(value)
    if isinstance(value, nodes.Concat):
        return _own("concatenated", *value.nodes)
    written = isinstance(value, nodes.List | nodes.Dict) or (isinstance(value, nodes.Tuple) and value.ctx == "load")
    return _own("made", value) if isinstance(value, nodes.Expr) and written else value


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


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """Convert to JSON. Unlike Jinja's filter, keep `<` and quotes unchanged."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
