"""Harmful repositories: each is refused in one line, runs no code, opens no connection and fills no memory."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_tokenizer import VOCAB

from infrs.bundle.manifest import find_bundle
from infrs.errors import RequestError, SourceError
from infrs.text.chat.template_files import load_chat_format

# One child exports them all: it notes what must not happen, and the growth of its memory since the imports, in KiB.
KEEPER = """
import contextlib, io, json, os, pathlib, re, sys
import infrs_export.sources.torch_model, infrs_export.bundle.companions, infrs_export.graph.convert
import infrs_export.parity.chat, infrs.engine.runners.opening
from infrs.cli.command import run
from infrs_export.cli import main
cache, zoo, seen = *sys.argv[1:], []
FORBIDDEN = ("socket.connect", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn", "pickle.find_class")
def keeper(event, arguments):
    of_zoo = lambda path: str(path).startswith(zoo)
    if event in FORBIDDEN:
        seen.append(event + " " + repr(arguments))
    if event == "exec" and of_zoo(getattr(arguments[0], "co_filename", "")):
        seen.append("exec of " + arguments[0].co_filename)
    if event == "open" and of_zoo(arguments[0]) and str(arguments[0]).endswith((".py", ".bin", ".pkl")):
        seen.append("open of " + str(arguments[0]))
sys.addaudithook(keeper)
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1])
pathlib.Path("/proc/self/clear_refs").write_text("5")  # the peak is what is used now, not what the imports took
before = peak()
for folder in sorted(os.listdir(zoo)):
    os.chdir(os.path.join(zoo, folder))
    errors, status, seen[:] = io.StringIO(), 0, []
    with contextlib.redirect_stderr(errors), contextlib.redirect_stdout(errors):
        try:
            run(main, "infrs-export", [os.getcwd(), "--output", cache, "--quiet"])
        except SystemExit as stop:
            status = stop.code
    grown = peak() - before
    result = {"kind": folder, "status": status, "seen": seen, "grown": grown, "errors": errors.getvalue()}
    print(json.dumps(result))
"""
EVIL = "import pathlib; pathlib.Path(__file__).with_name('ran').touch()\n"


def config(folder: Path, **fields: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def template(folder: Path, text: str) -> None:
    (folder / "chat_template.jinja").write_text(text)


def header(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the header of the weights' file."""
    path = folder / "model.safetensors"
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    content = json.loads(data[8 : 8 + size])
    change(content)
    text = json.dumps(content).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def auto_map(folder: Path) -> None:
    (folder / "evil.py").write_text(EVIL)
    config(folder, auto_map={"AutoConfig": "evil.Config", "AutoModelForCausalLM": "evil.Model"})


def attention_from_the_hub(folder: Path) -> None:
    config(folder, _attn_implementation_internal="evil/kernels", attn_implementation="evil/kernels")


def pickled_weights(folder: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return eval, (f"open({str(folder / 'ran')!r}, 'w')",)

    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))


def code_for_a_model_type(folder: Path) -> None:
    """Add files that transformers would look for next to the weights."""
    for name in ("configuration_evil.py", "modeling_evil.py", "tokenization_evil.py"):
        (folder / name).write_text(EVIL)
    config(folder, model_type="evil", architectures=["EvilForCausalLM"])


def template_that_runs_code(folder: Path) -> None:
    template(
        folder, "{{ cycler.__init__.__globals__.os.popen('touch ran').read() }}{% for m in messages %}{% endfor %}"
    )


def template_that_never_ends(folder: Path) -> None:
    template(folder, "{% for a in range(99999) %}{% for b in range(99999) %}{{ 'x' * 99999 }}{% endfor %}{% endfor %}")


def shard_outside(folder: Path) -> None:
    index = {"weight_map": {"model.norm.weight": "../../x.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def overlapping_offsets(folder: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        one, other = [name for name in content if content[name].get("shape") == [64]][:2]
        content[one]["data_offsets"] = content[other]["data_offsets"]

    header(folder, change)


def vast_dimensions(folder: Path) -> None:
    header(folder, lambda content: content["model.norm.weight"].update(shape=[10**12]))


def vast_configuration(folder: Path) -> None:
    config(folder, hidden_size=10**12, intermediate_size=10**12)


def vast_vocabulary(folder: Path) -> None:
    config(folder, vocab_size=10**12)


def more_than_it_holds(folder: Path) -> None:
    config(folder, vocab_size=1 << 21)


def endless_layers(folder: Path) -> None:
    config(folder, num_hidden_layers=2**31)


def vocabulary_of_another(folder: Path) -> None:
    """The tokenizer knows tokens for which the model has no row."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    special = {"content": "<more>", "single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    tokenizer["added_tokens"].append(special | {"id": VOCAB + 700, "special": True})
    tokenizer["model"]["vocab"]["<more>"] = VOCAB + 700
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def huge_config(folder: Path) -> None:
    with (folder / "config.json").open("r+b") as file:
        file.truncate(2 << 30)


def shard_named(name: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"model.norm.weight": name}}))

    return change


def names_that_differ_in_case(folder: Path) -> None:
    for name in ("model-A.safetensors", "model-a.safetensors"):
        shutil.copyfile(folder / "model.safetensors", folder / name)
    weights = {"model.norm.weight": "model-A.safetensors", "model.embed_tokens.weight": "model-a.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


ZOO: dict[str, tuple[Callable[[Path], None], str]] = {
    "auto_map": (auto_map, "auto_map"),
    "attention from the Hub": (attention_from_the_hub, "attn_implementation"),
    "pickled weights": (pickled_weights, "pickle"),
    "code beside the weights": (code_for_a_model_type, "does not know the model_type 'evil'"),
    "shard outside": (shard_outside, "not a safetensors file next to it"),
    "overlapping offsets": (overlapping_offsets, "model.safetensors is damaged"),
    "vast dimensions": (vast_dimensions, "model.safetensors is damaged"),
    "vast configuration": (vast_configuration, "hidden_size"),
    "vast vocabulary": (vast_vocabulary, "vocab_size"),
    "more than it holds": (more_than_it_holds, "cannot fill"),
    "endless layers": (endless_layers, "num_hidden_layers"),
    "vocabulary of another": (vocabulary_of_another, "do not belong together"),
    "huge config": (huge_config, "larger than"),
    "NUL in a name": (shard_named("model\0.safetensors"), "not a safetensors file next to it"),
    "names that differ in case": (names_that_differ_in_case, "case"),
    "name from right to left": (shard_named("model\u202esrosnetefas.safetensors"), "not a safetensors file next to it"),
}


def exported(zoo: Path, cache: Path) -> dict[str, dict[str, Any]]:
    """What the keeper says of each folder of `zoo`. Nothing bad may have happened."""
    command = [sys.executable, "-c", KEEPER, str(cache), str(zoo)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stderr
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert {one["kind"]: one["seen"] for one in results if one["seen"]} == {}
    assert not list(zoo.rglob("ran"))
    return {one["kind"]: one for one in results}


@pytest.mark.slow
@pytest.mark.nightly("harmful repositories")
def test_the_zoo(tiny_folder: Path, tmp_path: Path, figure: Callable[[str], None]) -> None:
    zoo, cache = tmp_path / "zoo", tmp_path / "cache"
    for kind, (make, _) in ZOO.items():
        make(Path(shutil.copytree(tiny_folder, zoo / kind)))
    results = exported(zoo, cache)
    assert results.keys() == ZOO.keys()
    for kind, (_, words) in ZOO.items():
        line = results[kind]["errors"].removesuffix("\n")
        assert results[kind]["status"] == SourceError.exit_code, f"{kind}: {line}"
        assert line.startswith("infrs-export: ")
        assert words in line
        assert line.isprintable(), kind
    grown = max(one["grown"] for one in results.values())
    assert grown < 200 << 10
    assert not list(cache.glob("[!.]*"))
    figure(f"{len(ZOO)} kinds refused, no code run, +{grown / 1024:.0f} MiB at most")


@pytest.mark.slow
def test_templates_are_not_run_by_the_exporter_and_refused_by_the_server(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a template does harm shows when it runs, which is the server's affair: in a sandbox, with bounds."""
    zoo = tmp_path / "zoo"
    for make in (template_that_runs_code, template_that_never_ends):
        make(Path(shutil.copytree(tiny_folder, zoo / make.__name__)))
    for kind, one in exported(zoo, tmp_path / "cache").items():
        assert one["status"] == 0, one["errors"]
        bundle = find_bundle(tmp_path / "cache", kind, "main", "auto")
        monkeypatch.chdir(zoo / kind)
        with pytest.raises(RequestError):
            load_chat_format(bundle).render([{"role": "user", "content": "Hello"}])
    assert not list(zoo.rglob("ran"))
