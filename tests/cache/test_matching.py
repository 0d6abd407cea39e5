import pytest

from entrepot.cache.matching import pattern_of


@pytest.mark.parametrize(
    ("match", "name", "fits"),
    [
        ("*", "a/b", True),
        ("team/*", "team/a/b", True),
        ("team/*", "team", False),
        ("team/*", "other/team/a", False),
        ("?.0", "1.0", True),
        ("?.0", "1x0", False),
        ("[a]+", "a", False),  # nothing else is special in a glob
        ("/", "/", True),
        ("/team/", "other/team/a", True),
        ("/^team[0-9]$/", "team1", True),
        ("/^team[0-9]$/", "my/team1", False),
        ("/a|b/", "xbx", True),
    ],
)
def test_a_glob_is_of_the_whole_and_an_expression_of_any_part(
    match: str, name: str, *, fits: bool
) -> None:
    assert (pattern_of(match).fullmatch(name) is not None) == fits
