"""Where a trained adapter can be put to serve: this process, a vLLM server, an Ollama server."""
