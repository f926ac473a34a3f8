"""Completion of arguments in a shell, and the script that turns it on."""

from __future__ import annotations

from pathlib import Path

import click
from click.shell_completion import BashComplete, CompletionItem, FishComplete, ZshComplete

from infrs.bundle.manifest import manifests
from infrs.config.settings import ModelSettings

PROGRAMS = ("infrs", "infrs-serve", "infrs-export", "infrs-bench")
_SHELLS = {"bash": BashComplete, "zsh": ZshComplete, "fish": FishComplete}


def complete_model(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Return the ids of cached models that start with the word."""
    cache = Path(ModelSettings.model_fields["cache_dir"].default)
    ids = {manifest.source.model_id for manifest in manifests(cache)} if cache.is_dir() else set()
    return [CompletionItem(model_id) for model_id in sorted(ids) if model_id.startswith(incomplete)]


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("shell", type=click.Choice([*_SHELLS]))
def completion(shell: str) -> None:
    """Print the script that lets SHELL complete infrs's commands.

    For bash: infrs completion bash >> ~/.bashrc
    """
    for program in PROGRAMS:
        variable = f"_{program.upper().replace('-', '_')}_COMPLETE"
        click.echo(_SHELLS[shell](click.Command(program), {}, program, variable).source())
