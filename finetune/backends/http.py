"""Requests to a server that an operator runs: one try each, and a clear reason when it fails."""

from __future__ import annotations

from typing import Any

from core.errors import ConfigError, ProviderError
from core.providers.remote import first_line


class Refused(ProviderError):
    """The server answered with an error. `status` is HTTP's; `told` is what it said, `own` False when a web framework said it."""

    def __init__(self, message: str, status: int, told: str, own: bool) -> None:
        super().__init__(message)
        self.status, self.told, self.own = status, told, own


class Server:
    """`name` is what it is called in errors, `hint` says how to start it."""

    def __init__(self, name: str, url: str, hint: str, *, key: str | None = None, timeout: float = 120.0) -> None:
        import httpx

        self.name, self.url, self._hint = name, url.rstrip("/"), hint
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.Client(base_url=self.url, headers=headers, timeout=timeout)
        except (httpx.InvalidURL, ValueError, TypeError) as error:
            raise ConfigError(f"{url!r} is no address ({first_line(error)}): write it like http://127.0.0.1:8000") from error

    def get(self, path: str) -> Any:
        """What it answers, as JSON."""
        return self._asked("GET", path, None)

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The same; a text where the answer is no JSON."""
        return self._asked("POST", path, body)

    def close(self) -> None:
        """Give back the connections."""
        self._client.close()

    def _asked(self, method: str, path: str, body: dict[str, Any] | None) -> Any:
        import httpx

        try:
            answer = self._client.request(method, path, json=body)
        except (httpx.ConnectError, httpx.UnsupportedProtocol) as error:
            raise ProviderError(f"no {self.name} at {self.url} ({first_line(error)}): {self._hint}") from error
        except httpx.TimeoutException as error:
            raise ProviderError(f"{self.name} at {self.url} did not answer {path} in time: try again, or raise the timeout") from error
        except httpx.HTTPError as error:
            raise ProviderError(f"the connection to {self.name} at {self.url} broke at {path}: {first_line(error)}") from error
        if answer.status_code >= 400:
            told, own = _told(answer)
            raise Refused(f"{self.name} at {self.url} refused {path} with {answer.status_code}: {told}", answer.status_code, told, own)
        try:
            return answer.json()
        except ValueError:
            return answer.text


def _told(answer: Any) -> tuple[str, bool]:
    """The message of an error in the forms that OpenAI-like servers write it in, and whether it is one of them."""
    try:
        body = answer.json()
    except ValueError:
        return first_line(answer.text) or "no reason given", False
    error = body.get("error", body) if isinstance(body, dict) else {}
    message = error.get("message") if isinstance(error, dict) else error
    own = isinstance(message, str)
    return first_line(message if own else body), own
