"""Every error Ratchet raises on purpose.

RatchetError
├── ConfigError        a setting, a name or an option is wrong
├── TaskError          a task or a question can't be used as given
├── ProviderError      a model could not be loaded, reached or understood
├── SearchError        a search was asked for something it can't do
├── StoreError         traces can't be read or written
├── SandboxError       untrusted code can't be run as safely as was asked
├── TrainingError      there is nothing to train on, or training can't go on
└── AdapterError       an adapter is damaged, foreign, or does not do what its manifest says

A message says what was found and what to do about it. An attempt of a model that fails is no error: it is a trace with a verdict.
"""


class RatchetError(Exception):
    """The root: catch this to catch everything Ratchet raises on purpose."""


class ConfigError(RatchetError):
    """A setting, a name or an option is wrong."""


class TaskError(RatchetError):
    """A task or a question can't be used as given."""


class ProviderError(RatchetError):
    """A model could not be loaded, reached or understood."""


class SearchError(RatchetError):
    """A search was asked for something it can't do."""


class StoreError(RatchetError):
    """Traces can't be read or written."""


class SandboxError(RatchetError):
    """Untrusted code can't be run as safely as was asked."""


class TrainingError(RatchetError):
    """There is nothing to train on, or training can't go on."""


class AdapterError(RatchetError):
    """An adapter is damaged, foreign, or does not do what its manifest says."""
