"""From a bundle on disk to a model that answers."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from infrs.config import Settings
from infrs.engine.load import load_engine
from infrs.engine.service import EngineService
from infrs.manifest import verify_bundle
from infrs.server.state import ServedModel
from infrs.text.chat_template import encode_chat, load_chat_format
from infrs.text.tokenizer import Tokenizer


def load_model(bundle: Path, settings: Settings) -> ServedModel:
    """Verify a bundle, open it and start its engine.

    Raises BundleError if the bundle is not as its manifest says, ConfigError if the engine's settings do not fit it.
    """
    manifest = verify_bundle(bundle)
    tokenizer = Tokenizer.load(bundle)
    chat_format = load_chat_format(bundle, settings.model.chat_format)
    engine = EngineService(load_engine(bundle, manifest, settings.engine, tokenizer), settings.engine.max_queue)
    engine.start()
    return ServedModel(
        model_id=manifest.source.model_id,
        manifest=manifest,
        bundle=bundle,
        engine=engine,
        encode=partial(encode_chat, tokenizer, chat_format),
        stop=chat_format.stop,
        created=int(time.time()),
    )
