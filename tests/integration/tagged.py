"""A tag of a repository of its own, as it is asked for through the proxy."""

import itertools

from tests.integration.conftest import Setting
from tests.integration.waiting import eventually
from tests.support.client import ACCEPT, Answer, ProxyClient
from tests.support.images import Manifest

_numbers = itertools.count(1)


class Tagged:
    def __init__(self, setting: Setting, tag: str = "1.0", *, is_there: bool = True) -> None:
        self._setting = setting
        self._number = next(_numbers)
        self.tag = tag
        self.repository = f"app{self._number}"
        self.path = f"/v2/{self.repository}/manifests/{tag}"
        self.url = setting.url + self.path
        if is_there:
            self.image = self.move()

    def move(self) -> Manifest:
        """To an image that it never pointed to."""
        self._number += 100_000
        registry = self._setting.registry
        self.image = registry.add_image(self.repository, self.tag, seed=self._number)
        return self.image

    async def get(
        self, client: ProxyClient, *, method: str = "GET", accept: str = ACCEPT
    ) -> Answer:
        return await client.request(method, self.url, {"Accept": accept})

    async def revalidated(self, client: ProxyClient) -> Answer:
        """The first answer for which the upstream was asked once more."""
        asked = self.asked
        return await eventually(lambda: self.get(client), lambda _: self.asked != asked)

    @property
    def asked(self) -> tuple[int, int]:
        """HEADs and GETs of the tag that reached the upstream."""
        log = self._setting.registry.log
        return log.count(self.path, method="HEAD"), log.count(self.path, method="GET")


def digest_of(answer: Answer) -> str:
    return answer.headers["docker-content-digest"]
