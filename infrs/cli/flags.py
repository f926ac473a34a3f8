"""The command-line form of the settings: one flag for each, and hints for flags that are spelled another way."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import click
from pydantic.fields import FieldInfo

from infrs.config.merge import flag_name
from infrs.config.other_names import NEEDLESS_FLAGS, OTHER_FLAGS
from infrs.config.settings import SECTIONS, Settings

EVERYDAY = {
    *("--config", "--demo", "--bundle", "--dtype", "--revision", "--cache-dir", "--models", "--model-alias"),
    *("--host", "--port", "--api-keys-file", "--allow-unauthenticated", "--cors-origins"),
    *("--threads", "--max-num-seqs", "--max-model-len", "--kv-budget-mb"),
    *("--help", "--help-all", "--version"),
}
_ALL = "infrs.help-all"  # in a context's meta: show every flag


class SettingsCommand(click.Command):
    """A command with flags for settings.

    Its help shows the flags by section, those for every day unless `--help-all` asks for the rest. Its usage errors
    suggest the correct flag, if it is known.
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section of flags for each section of the settings."""
        sections: dict[str, list[tuple[str, str]]] = {"": [], "Model": [], "Server": [], "Engine": []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and (ctx.meta.get(_ALL) or EVERYDAY & {*parameter.opts}):
                section = (parameter.name or "").partition("__")[0].capitalize()
                sections["Model" if section == "Models" else section if section in sections else ""].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title or "Options"):
                    formatter.write_dl(records)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments. Raises click.UsageError."""
        given = list(args)
        switches = {option.opts[0]: option.secondary_opts[0] for option in self.params if option.secondary_opts}
        for position, argument in enumerate(given):
            flag, _, value = argument.partition("=")
            value = value or next(iter(given[position + 1 : position + 2]), "")
            if flag in switches and (value in ("true", "false") or "=" in argument):
                instead = switches[flag] if value == "false" else flag
                raise click.UsageError(f"{flag} takes no value; write {instead}")
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption:
            for flag in (argument.partition("=")[0] for argument in given):
                if flag in OTHER_FLAGS:
                    raise click.UsageError(f"No such option '{flag}'; use {OTHER_FLAGS[flag]}") from None
                if flag in NEEDLESS_FLAGS:
                    raise click.UsageError(f"No such option '{flag}'; leave it out: {NEEDLESS_FLAGS[flag]}") from None
            raise


def help_all(command: Callable[..., None]) -> Callable[..., None]:
    """Add the flag `--help-all`, which shows the help with every flag."""

    def show(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:  # as click calls it
        if value and not ctx.resilient_parsing:
            ctx.meta[_ALL] = True
            click.echo(ctx.get_help())
            ctx.exit()

    text = "Show all flags and exit."
    return click.option("--help-all", is_flag=True, is_eager=True, expose_value=False, callback=show, help=text)(
        command
    )


def settings_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Add one flag for each setting. Values are text, which `load_settings` checks, or for switches a bool or None."""
    models = f"{Settings.model_fields['models'].description} Comma-separated ids and paths, or JSON. [models]"
    command = click.option("--models", metavar="VALUE", help=models)(command)
    for section, model in reversed(SECTIONS.items()):
        for name, field in reversed(model.model_fields.items()):
            command = _option(f"{section}.{name}", field)(command)
    return command


def text_values(values: dict[str, str | bool | None]) -> dict[str, str]:
    """Return the flags that were given, as text by dotted key."""
    return {
        key.replace("__", "."): str(value).lower() if isinstance(value, bool) else value
        for key, value in values.items()
        if value is not None
    }


def _option(key: str, field: FieldInfo) -> Callable[[Callable[..., None]], Callable[..., None]]:
    flag, parameter = flag_name(key), key.replace(".", "__")
    if field.annotation is bool:
        help_text = f"{field.description} [{key}; default: {str(field.default).lower()}]"
        return click.option(f"{flag}/--no-{flag[2:]}", parameter, default=None, help=help_text)
    words = get_args(field.annotation)
    default = "" if field.default == "" else f"; default: {field.default}"
    return click.option(
        *([flag, "--model"] if key == "model.model_id" else [flag]),
        parameter,
        metavar=f"[{'|'.join(words)}]" if words else "VALUE",
        help=f"{field.description} [{key}{default}]",
    )
