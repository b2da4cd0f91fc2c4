"""Files of people: read, or refused in one line with their name."""

from __future__ import annotations

from pathlib import Path

import pytest

from featlink_codec.errors import SettingsError
from featlink_codec.tables import parse_json, parse_toml, read_text


def test_what_is_there_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_bytes("a = 'ä'".encode())
    assert parse_toml(read_text(file), file) == {"a": "ä"}
    assert parse_json("[1, 2.5]", file) == [1, 2.5]


def test_what_is_not_is_said_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    with pytest.raises(SettingsError, match=r"a\.toml: No such file or directory$"):
        read_text(file)
    with pytest.raises(SettingsError, match=r"a\.toml: No such file or directory; it is written by hand$"):
        read_text(file, "it is written by hand")
    with pytest.raises(SettingsError, match=f"{tmp_path}: Is a directory"):
        read_text(tmp_path)
    file.write_bytes(b"ab\xff")
    with pytest.raises(SettingsError, match=r"a\.toml: not UTF-8: invalid start byte at byte 2"):
        read_text(file)
    with pytest.raises(SettingsError, match=r"^a\.toml: not TOML: .*line 2") as error:
        parse_toml("a = 1\nb = ;\n", "a.toml")
    assert "\n" not in str(error.value)
    with pytest.raises(SettingsError, match=r"^o\.json: not JSON: .*column 1"):
        parse_json("x", "o.json")
    with pytest.raises(SettingsError, match=r"^o\.json: not JSON, expected a list$"):
        parse_json("x", "o.json", "a list")
