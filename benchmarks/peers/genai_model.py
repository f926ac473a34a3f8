"""The demo's weights in 4 bits for onnxruntime-genai, made by its own builder: MODEL.gguf TOKENIZER LIBRARY TARGET.

The builder needs a checkpoint of transformers', which this writes first, and a newer transformers than the exporter's,
which lies in the folder LIBRARY with onnxruntime-genai.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import onnx

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja")


def build(gguf: Path, tokenizer: Path, library: Path, target: Path) -> None:
    """Make the folder `target`, in one rename."""
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 (seconds, and only to build)

    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        checkpoint, built = Path(temporary) / "checkpoint", Path(temporary) / "built"
        AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(checkpoint)
        copy_tokenizer(tokenizer, checkpoint)
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(checkpoint), "-o", str(built)]
        command += ["-p", "int4", "-e", "cpu", "-c", str(Path(temporary) / "cache")]
        environ = os.environ | {"PYTHONPATH": str(library), "HF_HUB_OFFLINE": "1"}
        subprocess.run(command, check=True, env=environ, stdout=sys.stderr, timeout=1800)
        copy_tokenizer(tokenizer, built)  # the newer transformers wrote a class that the library does not know
        built.rename(target)


def for_server(model: Path, target: Path) -> None:
    """`model` again as onnx-genai-server can be measured with it.

    The size of a head stands at the keys and values of the graph, which it asks for, and the token that ends an answer
    is one that the model never writes, because it does not know `ignore_eos`.
    """
    config = json.loads((model / "genai_config.json").read_text())
    described = config["model"]
    graph = onnx.load(model / "model.onnx", load_external_data=False)
    for value in (*graph.graph.input, *graph.graph.output):
        if value.name.startswith(("past_key_values.", "present.")):
            value.type.tensor_type.shape.dim[3].dim_value = described["decoder"]["head_size"]
    described["eos_token_id"] = described["vocab_size"] - 1
    with tempfile.TemporaryDirectory(dir=target.parent) as temporary:
        changed = Path(temporary) / "changed"
        shutil.copytree(model, changed)
        onnx.save(graph, changed / "model.onnx")
        (changed / "genai_config.json").write_text(json.dumps(config, indent=1))
        changed.rename(target)


def copy_tokenizer(tokenizer: Path, target: Path) -> None:
    for name in _TOKENIZER_FILES:
        shutil.copy(tokenizer / name, target)


if __name__ == "__main__":
    build(*(Path(argument) for argument in sys.argv[1:]))
