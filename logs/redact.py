"""Secrets out of texts and runs, before anything of them is written: known forms, names of fields, the environment's own values.

It finds what has the form of a secret. What has none, a password in a sentence, is found only where the environment holds it too.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any
from urllib.parse import quote

from core.types import Run, Verdict
from logs.redact_run import redacted_plain, redacted_run, redacted_verdict, strings_of, texts_of

SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL", re.IGNORECASE)
LEAST_SECRET = 8
LEAST_REMEMBERED = 12
MAX_PASSES = 20

Hook = Callable[[str], str]


def _form(kind: str, pattern: str, *hints: str) -> tuple[str, re.Pattern[str], tuple[str, ...]]:
    return kind, re.compile(pattern), hints


# A form is looked for only in texts that hold one of its hints: most texts hold none. Each pattern takes time in proportion to the text.
# Names of fields such as `prompt_tokens` hold hints too, so a run is gone through text by text only where a pattern found something.
FORMS = (
    _form(
        "private-key",
        r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----(?:(?!-----END)[\s\S]){0,20000}(?:-----END [A-Z0-9 ]{0,40}-----)?",
        "PRIVATE KEY",
    ),
    _form("anthropic", r"(?<![A-Za-z0-9])sk-ant-[A-Za-z0-9_-]{16,}", "sk-ant-"),
    _form("openai", r"(?<![A-Za-z0-9])sk-[A-Za-z0-9_-]{20,}", "sk-"),
    _form(
        "aws",
        r"(?<![A-Za-z0-9])(?:AKIA|ASIA|ABIA|ACCA|AROA|AIDA)[A-Z0-9]{16}(?![A-Za-z0-9])",
        "AKIA",
        "ASIA",
        "ABIA",
        "ACCA",
        "AROA",
        "AIDA",
    ),
    _form(
        "github",
        r"(?<![A-Za-z0-9])(?:gh[pousr]_[A-Za-z0-9]{30,}|github_pat_[A-Za-z0-9_]{22,})",
        "ghp_",
        "gho_",
        "ghu_",
        "ghs_",
        "ghr_",
        "github_pat_",
    ),
    _form("gitlab", r"(?<![A-Za-z0-9])glpat-[A-Za-z0-9_-]{20,}", "glpat-"),
    _form("huggingface", r"(?<![A-Za-z0-9])hf_[A-Za-z0-9]{30,}", "hf_"),
    _form("slack", r"(?<![A-Za-z0-9])(?:xox[a-z]|xapp)-[A-Za-z0-9-]{10,}", "xox", "xapp-"),
    _form("slack", r"hooks\.slack\.com/services/[A-Za-z0-9/]{20,}", "hooks.slack.com"),
    _form(
        "google",
        r"(?<![A-Za-z0-9])(?:AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}|GOCSPX-[A-Za-z0-9_-]{20,})",
        "AIza",
        "ya29.",
        "GOCSPX-",
    ),
    _form("stripe", r"(?<![A-Za-z0-9])[sr]k_(?:live|test)_[A-Za-z0-9]{16,}", "k_live_", "k_test_"),
    _form("jwt", r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]{0,4096}", "eyJ"),
    _form("bearer", r"(?i)(?<![a-z0-9])(?:bearer|basic)[ \t]{1,4}([A-Za-z0-9._~+/-]{16,}={0,2})", "earer ", "EARER ", "asic ", "BASIC "),
    _form("password", r"(?<=://)[^\s:/@\"'<>]{0,100}:([^\s@/\"'<>]{1,256})@", "://"),
    _form(
        "assigned",
        r"(?i)(?:api[_-]?key|secret[_-]?(?:access[_-]?)?key|access[_-]?key|private[_-]?key|client[_-]?secret|(?:access|auth|refresh|session|bot)"
        r"[_-]?token|passw(?:or)?d|pwd)[\"']?[ \t]{0,4}(?:[:=]|=>|:=)[ \t]{0,4}(?:[\"']([^\"'\s]{8,500})[\"']"
        r"|(?=[A-Za-z_.~+/!@#$%^&*-]{0,60}[0-9])([A-Za-z0-9_.~+/=!@#$%^&*-]{8,500})(?![A-Za-z0-9_.~+/=!@#$%^&*(\[-]))",
        *("key", "KEY", "Key", "ecret", "ECRET", "oken", "OKEN", "passw", "PASSW", "Passw", "pwd", "PWD"),
    ),
)
PERSONAL = (
    _form("email", r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9._%+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9])", "@"),
    _form("phone", r"(?<![\w+])\+[1-9](?:[ .()/-]{0,2}[0-9]){7,14}(?![0-9])", "+"),
    _form("phone", r"(?<![\w.-])(?:\([0-9]{3}\) ?|[0-9]{3}[ .-])[0-9]{3}[ .-][0-9]{4}(?![\w-])", *"0123456789"),
)
FIELD = re.compile(
    r"(?:^|_)(?:password|passwd|pwd|passphrase|secret|api_?key|access_?key|secret_?key|private_?key|access_?token|auth_?token|refresh_?token"
    r"|session_?token|bearer_?token|id_?token|bot_?token|github_?token|hf_?token|client_?secret|authorization|proxy_?authorization"
    r"|cookie|set_?cookie|credentials|connection_?string|database_?url|dsn)$"
)
OTHER_KINDS = ("environment", "field", "secret", "split-train", "split-gate", "split-report")
PLACEHOLDER = re.compile(r"\[redacted:[a-z-]+\]")


class Redactor:
    """Replaces secrets by placeholders such as `[redacted:openai]`. A text that was redacted stays as it is when redacted again.

    `personal` adds e-mail addresses and telephone numbers; `hook` is asked last, text in and text out, for forms of the user's own.
    `environment` is whose values of 8 letters or more, under names with KEY, TOKEN, SECRET or PASSWORD, are secrets.
    """

    def __init__(self, *, personal: bool = False, hook: Hook | None = None, environment: Mapping[str, str] | None = None) -> None:
        self._personal = personal
        self._hook = hook
        self._environment = os.environ if environment is None else environment
        self._forms = FORMS + (PERSONAL if personal else ())
        self._values: tuple[str, ...] = ()
        self._seen: object = None
        self.up_to_date()

    def up_to_date(self) -> Redactor:
        """With what the environment holds now."""
        secrets = frozenset(v for k, v in self._environment.items() if len(v) >= LEAST_SECRET and SECRET_NAME.search(k))
        if secrets != self._seen:
            self._seen = secrets
            spelled = {form for value in secrets for form in (value, quote(value, safe=""), value.strip()) if len(form) >= LEAST_SECRET}
            names = " ".join(f"[redacted:{kind}]" for kind in (*(form[0] for form in (*FORMS, *PERSONAL)), *OTHER_KINDS))
            self._values = tuple(sorted((v for v in spelled if v not in names), key=len, reverse=True))
        return self

    def text(self, text: str) -> str:
        """The text without secrets."""
        known = self.known(text)
        return known if self._hook is None else self._hook(known)

    def known(self, text: str) -> str:
        """The text without the secrets that are known to the Redactor itself: the hook is not asked."""
        return self._found(text, None)

    def run(self, run: Run) -> Run:
        """The run without secrets; itself when it has none. A secret that is found in one of its texts is gone from all of them."""
        blob = "\n".join(texts_of(run))
        if self._hook is None and not self._may_hold(blob) and not _names_secret(*_fields_of(run)):
            return run
        found: set[str] = set()
        self._found(blob, found)
        for fields in _fields_of(run):
            _collect(fields, found)
        remembered = sorted((secret for secret in found if len(secret) >= LEAST_REMEMBERED), key=len, reverse=True)

        def clean(text: str) -> str:
            text = self.text(text)
            for secret in remembered:
                text = text.replace(secret, "[redacted:secret]")
            return text

        return redacted_run(run, clean, is_secret_field)

    def verdict(self, verdict: Verdict) -> Verdict:
        """A verdict without secrets."""
        return redacted_verdict(verdict, self.text, is_secret_field)

    def clean(self, *context: Any) -> Callable[[Any], bool]:
        """A test of JSON: whether nothing in it would be redacted, neither by itself nor for being a secret of the context."""
        found: set[str] = set()
        self._found("\n".join(strings_of(context)), found)
        _collect(context, found)
        remembered = [secret for secret in found if len(secret) >= LEAST_REMEMBERED]

        def is_clean(value: Any) -> bool:
            blob = "\n".join(strings_of(value))
            if any(secret in blob for secret in remembered):
                return False
            may_hold = self._hook is not None or self._may_hold(blob) or _names_secret(value)
            return not may_hold or self.plain(value) == value

        return is_clean

    def plain(self, value: Any) -> Any:
        """JSON without secrets: the texts in it, and whatever stands under a name such as `api_key`."""
        return redacted_plain(value, self.text, is_secret_field)

    def _may_hold(self, text: str) -> bool:
        """Whether a pass over the text, or over any of the lines in it, could change it."""
        return any(value in text for value in self._values) or any(
            any(hint in text for hint in hints) and pattern.search(text) for _, pattern, hints in self._forms
        )

    def _found(self, text: str, found: set[str] | None) -> str:
        """The text redacted, until nothing more is found: one secret may stand against another. What was taken out goes into `found`."""
        for _ in range(MAX_PASSES):
            before, text = text, self._pass(text, found)
            if text == before:
                break
        return text

    def _pass(self, text: str, found: set[str] | None) -> str:
        for value in self._values:
            if value in text:
                text = text.replace(value, "[redacted:environment]")
        for kind, pattern, hints in self._forms:
            if any(hint in text for hint in hints):
                text = _substituted(text, kind, pattern, found)
        return text


@lru_cache(maxsize=10_000)
def is_secret_field(name: str) -> bool:
    """Whether what stands under a name in JSON is a secret, whatever it looks like."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name[:100]).replace("-", "_").replace(" ", "_").lower()
    return FIELD.search(snake) is not None


def _substituted(text: str, kind: str, pattern: re.Pattern[str], found: set[str] | None) -> str:
    def mark(match: re.Match[str]) -> str:
        group = match.lastindex or 0
        secret = match[group]
        if PLACEHOLDER.search(secret):
            return match[0]
        if found is not None:
            found.update(line for line in (secret, *secret.splitlines()) if not line.startswith("-----"))
        start, end = match.span(group)
        return f"{match[0][: start - match.start()]}[redacted:{kind}]{match[0][end - match.start() :]}"

    return pattern.sub(mark, text)


def _fields_of(run: Run) -> Iterable[Mapping[str, Any]]:
    yield run.task.metadata
    yield from run.events
    for trace in run.traces:
        yield trace.verdict.details
        if trace.task is not run.task:
            yield trace.task.metadata


def _names_secret(*values: Any) -> bool:
    found: set[str] = set()
    for value in values:
        _collect(value, found)
    return bool(found)


def _collect(value: Any, found: set[str], secret: bool = False) -> None:
    """The texts that stand under a secret's name."""
    if isinstance(value, str):
        if secret and value and not PLACEHOLDER.fullmatch(value):
            found.add(value)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            _collect(each, found, secret or is_secret_field(str(name)))
    elif isinstance(value, list | tuple | set | frozenset):
        for each in value:
            _collect(each, found, secret)
