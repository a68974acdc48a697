"""foreman: one Ollama target, every call queued, drained by model and streamed."""

__version__ = "0.1.0"
