"""What can go wrong below the doors, in this package's own words. Who maps them to codes is not known here.

RuntimeFault
├── Refused             the request can't be served as it stands (the caller's to mend)
│   ├── BadParameter
│   ├── ContextTooLong
│   ├── LoraUnsupported
│   ├── AdapterError    an adapter's files can't be used, or don't fit the weights
│   ├── UnknownFinetune
│   ├── FinetuneIncomplete
│   └── FinetuneTaken
├── Overloaded          the waiting queue is full; the same request may pass later
├── JsonCut             the answer's limit fell inside the JSON that was promised
├── NoGrammars          the library that constrains decoding isn't installed
├── EngineFailed        a step raised, or the engine is closed
├── NoWeights           nothing on this machine answers for the model
├── DeviceUnavailable   the asked-for device can't be used here
├── DeviceFull          what is to be loaded doesn't fit a device's memory
└── ArtifactError       weights that can't be read, built, downloaded or loaded
"""

from __future__ import annotations


class RuntimeFault(Exception):
    """The root of all faults of this package; ``str()`` is one sentence for a person."""


class Refused(RuntimeFault):
    """A request that can't be served as it stands."""


class BadParameter(Refused):
    """An input within its schema that still means nothing; ``path`` is a JSON pointer."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(reason)
        self.path = path


class ContextTooLong(Refused):
    """More tokens than the model's limits admit. Both counts are tokens of the weights that answer."""

    def __init__(self, needed: int, limit: int, *, what: str = "input and maximum output tokens") -> None:
        super().__init__(
            f"The estimated number of {what} ({needed}) exceeded this model context window limit ({limit})."
        )
        self.needed = needed
        self.limit = limit


class LoraUnsupported(Refused):
    """A LoRA was named for a model that takes none."""


class AdapterError(Refused):
    """An adapter whose files can't be used, or don't fit the weights that answer; the sentence says why."""


class UnknownFinetune(Refused):
    """No fine-tune has this name or id, or it was made for another model."""


class FinetuneIncomplete(Refused):
    """A fine-tune that lacks one of its two files."""


class FinetuneTaken(Refused):
    """A fine-tune's name, or a file of it, that is there already."""


class Overloaded(RuntimeFault):
    """The engine's waiting queue is full."""


class JsonCut(RuntimeFault):
    """An answer that reached its limit inside the JSON, or the tool call, that it had to be."""


class JsonUnmet(RuntimeFault):
    """An answer that is whole, and of its grammar, but not of the schema's ``oneOf``, which no grammar can hold."""


class NoGrammars(RuntimeFault):
    """The library that constrains decoding isn't installed."""


class EngineFailed(RuntimeFault):
    """A step of the engine raised, or the engine was closed with the request in it."""


class NoWeights(RuntimeFault):
    """No artifact on this machine answers for the model; the sentence says what to type."""


class DeviceUnavailable(RuntimeFault):
    """The device that was asked for can't run here; the sentence names what is missing."""


class DeviceFull(RuntimeFault):
    """A model doesn't fit the memory that is free; the sentence has the numbers and what to change."""


class ArtifactError(RuntimeFault):
    """Weights that can't be read, built, downloaded or loaded."""
