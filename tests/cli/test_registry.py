"""`entrepot registry` as people and scripts call it, with no proxy running."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from entrepot.cli.main import main
from entrepot.cli.registry_names import Name, Names
from entrepot.config.local import LocalRegistry
from entrepot.config.model import Config
from entrepot.errors import ConfigError, InvalidReference
from entrepot.oci.digest import Digest
from tests.local.registry import NAME, OwnRegistry
from tests.support.distribution import is_installed
from tests.support.images import build_image, build_index

ONE, TWO, OLD = (build_image([size], seed=size) for size in (20_000, 30_000, 40_000))
INDEX = build_index([ONE, build_image([5000], seed=7, platform="linux/arm64/v8")])
DIGEST = Digest.of(b"")


class Shell:
    def __init__(self, own: OwnRegistry, directory: Path) -> None:
        self.own = own
        self.directory = directory
        self.entry: dict[str, Any] = {
            "upstream": [own.url],
            "anonymous": ["pull"],
            "gc": {"command": list(own.command), "storage": str(own.storage)},
        }
        self.registries: dict[str, Any] = {NAME: self.entry}
        (directory / "data" / "cache").mkdir(parents=True)

    def call(self, *arguments: str) -> Result:
        file = self.directory / "entrepot.yaml"
        settings = {"data": str(self.directory / "data"), "local_registries": self.registries}
        file.write_text(yaml.safe_dump(settings))
        return CliRunner().invoke(main, ["registry", *arguments, "--config", str(file)])

    def run(self, *arguments: str) -> str:
        result = self.call(*arguments)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run(*arguments, "--json"))

    def fail(self, *arguments: str, status: int = 1) -> str:
        result = self.call(*arguments)
        assert result.exit_code == status, result.output
        return result.stderr


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    if not is_installed():
        pytest.skip("needs docker-registry and htpasswd")
    with OwnRegistry(tmp_path / "own") as own:
        own.storage.mkdir()
        yield Shell(own, tmp_path)


class TestLs:
    def test_hides_what_has_no_tag(self, shell: Shell) -> None:
        shell.own.push("team/app", "1.0", ONE)
        shell.own.push("team/empty", "1.0", ONE)
        shell.run("rm", "team/empty:1.0")
        assert shell.run("ls") == "team/app\n"
        assert shell.run("ls", "--all") == "team/app\nteam/empty\n"
        assert shell.json("ls") == [{"repository": "team/app", "tags": 1}]

    def test_takes_a_pattern_with_or_without_the_host(self, shell: Shell) -> None:
        for repository in ("team/app", "team/web", "other"):
            shell.own.push(repository, "1.0", ONE)
        for pattern in ("team/*", f"{NAME}/team/*"):
            assert shell.run("ls", pattern) == "team/app\nteam/web\n"

    def test_goes_on_to_the_last_page(self, shell: Shell) -> None:
        names = [f"r{number:03}" for number in range(120)]
        for name in names:
            shell.own.push(name, "1", ONE)
        assert shell.run("ls").split() == names

    def test_of_a_new_registry_is_empty(self, shell: Shell) -> None:
        assert shell.run("ls") == ""


class TestTags:
    def test_tells_what_is_behind_them(self, shell: Shell) -> None:
        shell.own.push("team/app", "multi", INDEX)
        shell.own.push("team/app", "one", ONE)
        multi, one = shell.json("tags", "team/app")
        assert multi["platforms"] == ["linux/amd64", "linux/arm64/v8"]
        assert (one["digest"], one["platforms"]) == (ONE.digest, ["linux/amd64"])
        assert one["size"] == len(ONE.body) + ONE.blob_bytes
        assert one["created"] == "1970-01-01T00:00:00+00:00"
        assert one["pushed"] is None
        title, first, _ = shell.run("tags", f"{NAME}/team/app").splitlines()
        assert title.split() == ["TAG", "DIGEST", "PLATFORMS", "SIZE", "PUSHED", "CREATED"]
        assert first.split()[2] == "linux/amd64,linux/arm64/v8"

    def test_of_what_is_not_there(self, shell: Shell) -> None:
        assert "there is no tag in none" in shell.fail("tags", "none")


def test_du_counts_what_is_shared_once(shell: Shell) -> None:
    shell.own.push("a", "1", ONE)
    shell.own.push("b", "1", ONE)
    shell.own.push("b", "2", TWO)
    one, two = (len(image.body) + image.blob_bytes for image in (ONE, TWO))
    usage = shell.json("du")
    assert {row["repository"]: row["size"] for row in usage["repositories"]} == {
        "a": one,
        "b": one + two,
    }
    assert usage["size"] == usage["stored"] == shell.own.stored() == one + two
    assert shell.json("du", "a") == {
        "repositories": [{"repository": "a", "tags": 1, "size": one}],
        "size": one,
        "stored": None,
    }
    heading, *_, total, stored = (line.split("  ") for line in shell.run("du").splitlines())
    assert heading[0] == "REPOSITORY"
    assert (total[0], stored[0]) == ("(all, shared counted once)", "(in the storage)")


class TestRm:
    def test_deletes_several_and_goes_on_after_one_that_fails(self, shell: Shell) -> None:
        for tag, image in (("1", ONE), ("2", TWO), ("3", OLD), ("4", OLD)):
            shell.own.push("team/app", tag, image)
        result = shell.call("rm", "team/app:1", f"{NAME}/team/app:none", f"team/app@{OLD.digest}")
        assert result.exit_code == 1
        assert "there is no team/app:none" in result.stderr
        assert result.stdout.splitlines() == [
            "deleted team/app:1",
            f"deleted team/app@{OLD.digest}",
            "deleted team/app:3",
            "deleted team/app:4",
        ]
        assert [row["tag"] for row in shell.json("tags", "team/app")] == ["2"]

    def test_changes_nothing_on_a_dry_run(self, shell: Shell) -> None:
        shell.own.push("app", "1", OLD)
        shell.own.push("app", "1", INDEX)
        expected = {"would_delete": ["app:1"]}
        assert shell.json("rm", "app:1", "--dry-run") == expected
        assert len(shell.json("rm", "app", "--all", "--dry-run")["would_delete"]) == 4
        assert shell.run("rm", "--untagged", "--dry-run") == f"would delete app@{OLD.digest}\n"
        assert shell.own.has_all_of("app", OLD)
        assert shell.own.has_all_of("app", INDEX)

    def test_of_a_repository_leaves_nothing(self, shell: Shell) -> None:
        shell.own.push("app", "1", OLD)
        shell.own.push("app", "1", INDEX)
        shell.own.push("other", "1", OLD)
        shell.run("rm", "app", "--all", "--offline")
        assert shell.run("ls") == "other\n"
        assert "nothing in app" in shell.fail("rm", "app", "--all", "--offline")

    def test_of_what_is_untagged_in_one_repository(self, shell: Shell) -> None:
        for repository in ("a", "b"):
            shell.own.push(repository, "1", OLD)
            shell.own.push(repository, "1", INDEX)
        said = shell.run("rm", "--untagged", "a", "--offline")
        assert said == f"deleted a@{OLD.digest}\n"
        assert shell.own.has_all_of("a", INDEX)
        assert shell.own.has_all_of("b", OLD)
        assert shell.run("rm", "--untagged", "a", "--offline") == ""

    def test_waits_for_no_proxy_only_when_told_so(self, shell: Shell) -> None:
        shell.own.push("app", "1", OLD)
        assert "--offline" in shell.fail("rm", "app", "--all")
        assert shell.own.has_all_of("app", OLD)

    @pytest.mark.parametrize(
        "arguments",
        [
            (),
            ("app",),
            ("app:1", "--all"),
            ("--all",),
            ("app", "--all", "--untagged"),
            ("a", "b", "--untagged"),
            ("App:1",),
            ("elsewhere.test:5000/app:1",),
        ],
    )
    def test_says_what_is_wrong_with_the_command(
        self, shell: Shell, arguments: tuple[str, ...]
    ) -> None:
        assert "Usage:" in shell.fail("rm", *arguments, status=2)

    def test_asks_for_the_proxys_data(self, shell: Shell) -> None:
        (shell.directory / "data" / "cache").rmdir()
        assert "--data" in shell.fail("rm", "app:1")


class TestGc:
    def test_says_what_it_frees(self, shell: Shell) -> None:
        shell.own.push("app", "1", OLD)
        shell.own.push("app", "1", ONE)
        planned = shell.json("gc", "--untagged", "--dry-run")
        assert shell.json("gc", "--dry-run")["would_delete_blobs"] == []
        before = shell.own.stored()
        summary = shell.run("gc", "--untagged", "--offline").splitlines()[-1]
        assert planned["bytes"] == before - shell.own.stored() > 40_000
        assert summary.startswith("1 manifests, 3 blobs, ")
        assert f"({planned['bytes']} bytes) freed" in summary
        assert shell.own.has_all_of("app", ONE)

    def test_that_cannot_run_says_why(self, shell: Shell) -> None:
        shell.own.push("app", "1", OLD)
        shell.entry["gc"]["command"] = ["/none/such"]
        assert "/none/such cannot be started" in shell.fail("gc")


class TestRetain:
    def test_deletes_what_no_rule_keeps(self, shell: Shell) -> None:
        shell.entry["retention"] = [{"match": "*", "keep_tags": ["v*"]}]
        for tag, image in (("v1", ONE), ("nightly", OLD)):
            shell.own.push("app", tag, image)
        assert shell.run("retain", "--dry-run") == "would delete app:nightly\n"
        assert shell.json("retain", "--offline") == {"deleted": ["app:nightly"]}
        assert [row["tag"] for row in shell.json("tags", "app")] == ["v1"]

    def test_without_rules_is_an_error(self, shell: Shell) -> None:
        assert "no rules of retention" in shell.fail("retain")


def test_an_unreachable_registry_is_told(shell: Shell) -> None:
    shell.own.stop()
    assert "cannot be reached" in shell.fail("ls")


class TestWhichRegistry:
    ONE_OF_TWO = Config(
        local_registries={
            "a.test": LocalRegistry(hosts=("a.example.test:5000",)),
            "b.test": LocalRegistry(),
        }
    )

    def names(self, chosen: str | None = None) -> Names:
        return Names(self.ONE_OF_TWO, chosen)

    @pytest.mark.parametrize("text", ["a.test/app:1", "A.TEST/app:1", "a.example.test:5000/app"])
    def test_is_told_by_the_name(self, text: str) -> None:
        assert self.names().registry([text]) == "a.test"
        assert self.names().parse(text).repository == "app"

    def test_is_told_by_the_option(self) -> None:
        assert self.names("a.example.test:5000").registry(["app:1"]) == "a.test"

    @pytest.mark.parametrize(("chosen", "texts"), [(None, ["app"]), ("b.test", ["a.test/app"])])
    def test_has_to_be_clear(self, chosen: str | None, texts: list[str]) -> None:
        with pytest.raises(ConfigError, match=r"--registry: a\.test, b\.test"):
            self.names(chosen).registry(texts)

    def test_that_is_none(self) -> None:
        with pytest.raises(ConfigError, match="none of the local registries"):
            self.names("c.test")
        with pytest.raises(ConfigError, match="no local_registries"):
            Names(Config(), None)

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("app", Name("app")),  # type: ignore[arg-type] # names are texts
            ("a/b:1.0", Name("a/b", "1.0")),  # type: ignore[arg-type] # names are texts
            (f"a@{DIGEST}", Name("a", None, DIGEST)),  # type: ignore[arg-type] # names are texts
        ],
    )
    def test_names(self, text: str, expected: Name) -> None:
        assert self.names().parse(text) == expected
        assert str(expected) == text

    @pytest.mark.parametrize("text", ["", "A", "a:", "a@sha256:1", "c.test:1/a", "a:b:c"])
    def test_what_is_no_name(self, text: str) -> None:
        with pytest.raises(InvalidReference):
            self.names().parse(text)
