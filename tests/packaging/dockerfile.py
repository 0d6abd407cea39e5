"""A Dockerfile as a list of instructions: as much of its grammar as ours uses."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

_WORDS = {
    "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "RUN",
    "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Instruction:
    word: str
    rest: str
    stage: int

    @property
    def flags(self) -> dict[str, str]:
        return dict(re.findall(r"--([a-z-]+)=(\S+)", self.rest))

    @property
    def arguments(self) -> list[str]:
        return [word for word in self.rest.split() if not word.startswith("--")]

    @property
    def exec_form(self) -> list[str]:
        words = json.loads(self.rest[self.rest.index("[") :])
        assert all(isinstance(word, str) for word in words)
        return list(words)


def parse(path: Path) -> list[Instruction]:
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    stage = -1
    found = []
    for line in filter(str.strip, joined.splitlines()):
        word, _, rest = line.partition(" ")
        assert word in _WORDS, f"no instruction: {word}"
        stage += word == "FROM"
        found.append(Instruction(word, rest.strip(), stage))
    return found
