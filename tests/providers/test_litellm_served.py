"""The litellm provider against a real server that is not ours: `transformers serve` with the embedded model, on loopback."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.util import find_spec
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from core.config import Settings
from core.orchestrator import Orchestrator
from core.providers import connect
from core.providers.local import EMBEDDED_DIRECTORY
from core.types import Message, Request, Sampling

MISSING = [package for package in ("fastapi", "uvicorn", "openai") if find_spec(package) is None]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(MISSING), reason=f"transformers serve needs more: pip install {' '.join(MISSING)}"),
]
ASK = Request((Message("user", "Solve 17*6+23"),), sampling=Sampling(max_tokens=60))


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """The embedded model, told to sample where a temperature is asked for: the server leaves that to the model's own configuration."""
    folder = tmp_path_factory.mktemp("served") / "embedded"
    shutil.copytree(EMBEDDED_DIRECTORY, folder, ignore=shutil.ignore_patterns("*.py", "__pycache__", "*.jsonl"))
    generation = folder / "generation_config.json"
    generation.write_text(json.dumps({**json.loads(generation.read_text()), "_from_model_config": False, "do_sample": True}))
    return folder


@pytest.fixture(scope="module")
def settings(directory, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = "from transformers.cli.transformers import main; main()"
    command = [sys.executable, "-c", program, "serve", str(directory), "--host", "127.0.0.1", "--port", str(port)]
    said = tmp_path_factory.mktemp("log") / "serve.log"
    with (
        said.open("wb") as log,
        subprocess.Popen(
            [*command, "--device", "cpu", "--dtype", "float32"],
            stdout=log,
            stderr=log,
            env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"},
        ) as process,
    ):
        try:
            _wait_for(f"http://127.0.0.1:{port}/health", process, said)
            yield Settings(_env_file=None, API_BASE=f"http://127.0.0.1:{port}/v1", MATH_WORKER_MODEL=f"litellm:openai/{directory}")
        finally:
            process.terminate()


def _wait_for(url, process, said):
    for _ in range(600):
        if process.poll() is not None:
            break
        try:
            with urlopen(url, timeout=5):
                return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    pytest.fail(f"transformers serve did not come up:\n{said.read_text(errors='replace')[-2000:]}")


def ask(settings, *requests):
    async def once():
        model = connect(settings.MATH_WORKER_MODEL, settings)
        try:
            return [await model.complete(request) for request in requests]
        finally:
            await model.close()

    return asyncio.run(once())


def test_the_greedy_answer_is_the_models_own(settings):
    embedded = connect("embedded", Settings(_env_file=None, DEVICE="cpu", THREADS=1))
    here = asyncio.run(embedded.complete(ASK))
    asyncio.run(embedded.close())

    (there,) = ask(settings, ASK)

    assert there.completions[0].text.strip() == here.completions[0].text.strip()
    assert (there.usage.calls, there.usage.prompt_tokens) == (1, here.usage.prompt_tokens)
    assert there.usage.completion_tokens > 0


def test_several_samples_come_from_a_server_that_gives_one(settings):
    request = ASK.replace(n=3, sampling=Sampling(temperature=1.0, max_tokens=20, seed=7))

    first, second = ask(settings, request, request)

    assert len(first.completions) == len(second.completions) == 3
    assert (first.usage.calls, second.usage.calls) == (3, 3)


def test_a_question_is_answered_and_verified_through_it(settings):
    with Orchestrator(settings) as orchestrator:
        result = orchestrator.infer("Solve 17*6+23", domain="math", expected="125", strategy="best_of_n")

    assert result.error is None
    assert (result.answer, result.verified) == ("125", True)
    assert result.model == settings.MATH_WORKER_MODEL
