"""The Python code of a template: that of Jinja, with a call of the environment for each operation.

`rewritten` puts the calls into a template's tree, and `Code` writes them. What costs nothing is written without a call:
a key of an object, and output that is text already.
"""

from __future__ import annotations

from typing import Any

from jinja2 import TemplateSyntaxError, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.idtracking import VAR_LOAD_RESOLVE

from infrs.text.chat.sandbox import operations

DICT_NAMES = frozenset(dir(dict))
_REPEATED = (nodes.For, nodes.Macro, nodes.CallBlock)
_REFUSED = tuple(operations.REFUSED_NODES)


class Code(CodeGenerator):
    """A generator of code for the environment of `infrs.text.chat.sandbox.environment`.

    undeclared: the names that the template reads but does not define, as `jinja2.meta` finds them.
    """

    _piece = ""  # the variable of the expression that is being written out

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # jinja2's own
        super().__init__(*args, **kwargs)
        self.undeclared: set[str] = set()

    def enter_frame(self, frame: Frame) -> None:
        """Note the names that come from outside the template."""
        super().enter_frame(frame)
        loads = frame.symbols.loads.values()
        self.undeclared |= {name for action, name in loads if action == VAR_LOAD_RESOLVE and name is not None}
        self.undeclared -= self.environment.globals.keys()

    def visit_Call(self, node: nodes.Call, frame: Frame, forward_caller: bool = False) -> None:  # noqa: N802  # Jinja's name
        """Write a call that `rewritten` put in as a call of the environment's method."""
        if isinstance(node.node, nodes.EnvironmentAttribute):
            self._call(node.node.name, node.args, frame)
        else:
            super().visit_Call(node, frame, forward_caller=forward_caller)

    def visit_Add(self, node: nodes.BinExpr, frame: Frame) -> None:  # noqa: N802  # Jinja's name
        """Write `a + b + c` as one call."""
        operands: list[nodes.Expr] = []
        first: nodes.Expr = node
        while isinstance(first, nodes.Add):
            operands.append(first.right)
            first = first.left
        self._call("added", [first, *reversed(operands)], frame)

    def visit_Getattr(self, node: nodes.Getattr, frame: Frame) -> None:  # noqa: N802  # Jinja's name
        """Write `a.b`, which is a key of an object more often than an attribute."""
        if node.attr in DICT_NAMES:
            super().visit_Getattr(node, frame)
        else:
            self._look_up("getattr", node.node, node.attr, frame)

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802  # Jinja's name
        """Write `a["b"]`."""
        if isinstance(node.arg, nodes.Const) and isinstance(node.arg.value, str):
            self._look_up("getitem", node.node, node.arg.value, frame)
        else:
            super().visit_Getitem(node, frame)

    def _call(self, name: str, arguments: list[nodes.Expr], frame: Frame) -> None:
        self.write(f"environment.{name}(")
        for argument in arguments:
            self.visit(argument, frame)
            self.write(", ")
        self.write(")")

    def _look_up(self, name: str, owner: nodes.Expr, key: str, frame: Frame) -> None:
        found = self.temporary_identifier()
        self.write(f"({found}[{key!r}] if type({found} := ")
        self.visit(owner, frame)
        self.write(f") is dict and {key!r} in {found} else environment.{name}({found}, {key!r}))")

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:  # noqa: ANN401
        """Return literal text. Any other expression waits for the rendering, which has limits."""
        if not isinstance(node, nodes.TemplateData | nodes.Const):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)

    def _output_child_pre(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:  # noqa: ANN401
        """Write what comes before an expression in output: text is written as it is."""
        self._piece = self.temporary_identifier()
        self.write(f"({self._piece} if type({self._piece} := ")

    def _output_child_post(self, node: nodes.Expr, frame: Frame, finalize: Any) -> None:  # noqa: ANN401
        """Write what comes after an expression in output."""
        self.write(f") is str else environment.written({self._piece}))")


def rewritten(tree: nodes.Template) -> nodes.Template:
    """Return a tree with calls of the environment: a tick in loops and macros, literals, `~`, slices, comparisons.

    Raises TemplateSyntaxError for a statement that reads another template, or that escapes.
    """
    for node in _reached(tree):
        if isinstance(node, _REFUSED):
            name = next(name for kind, name in operations.REFUSED_NODES.items() if isinstance(node, kind))
            raise TemplateSyntaxError(f"{{% {name} %}} is not supported in chat templates", node.lineno)
        if isinstance(node, _REPEATED):
            node.body.insert(0, nodes.ExprStmt(_call("tick", nodes.Const(_in_a_pass(node)))))
        if isinstance(node, nodes.For) and node.test is not None:
            node.test = nodes.And(_call("tick", nodes.Const(0)), node.test)
    _replace(tree)
    return tree


def _in_a_pass(node: nodes.For | nodes.Macro | nodes.CallBlock) -> int:
    """Return the number of nodes that one pass of a loop or macro can reach."""
    return len(_reached(node, _REPEATED))


def _reached(node: nodes.Node, ends: tuple[type[nodes.Node], ...] = ()) -> list[nodes.Node]:
    """Return the nodes below a node, parents first, without those below a node of a type in `ends`."""
    reached = []
    to_do = [*node.iter_child_nodes()][::-1]
    while to_do:
        child = to_do.pop()
        reached.append(child)
        if not isinstance(child, ends):
            to_do += [*child.iter_child_nodes()][::-1]
    return reached


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
