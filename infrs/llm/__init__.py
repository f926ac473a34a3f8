"""Models in a Python program, without a server: `LLM` and `AsyncLLM`."""

from infrs.llm.async_llm import AsyncLLM
from infrs.llm.llm import LLM
from infrs.llm.outputs import Chunk, Classification, Output, RequestOutput
from infrs.llm.params import SamplingParams

__all__ = ["LLM", "AsyncLLM", "Chunk", "Classification", "Output", "RequestOutput", "SamplingParams"]
