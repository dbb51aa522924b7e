"""Files of bare token ids: mapped in the width they have, several as one, known by what they hold."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from phase8_tune.tuner.training.sources import Source, find_sources
from phase8_tune.tuner.training.token_files import map_ids
from phase8_tune.tuner.training.tokenizer import Ids
from phase8_tune.tuner.values.errors import UserInputError

from .corpora import opened


def write_ids(path: Path, ids: Sequence[int] | NDArray[np.integer[Any]], dtype: str) -> Source:
    np.asarray(ids).astype(dtype).tofile(path)
    return Source(path=path, kind="tokens")


GPT2_IDS = np.random.default_rng(0).zipf(1.3, 20_000) % 50_257


@pytest.mark.parametrize(
    ("ids", "dtype"),
    [
        (GPT2_IDS, "<u2"),
        (GPT2_IDS, "<u4"),
        (GPT2_IDS[:101], "<u4"),
        (np.arange(65, 130).repeat(3), "<u2"),
        (np.arange(200_000, 201_000), "<u4"),
        ([1, 2, 3], "<u2"),
        (np.zeros(500), "<u2"),
    ],
)
def test_token_files_are_mapped_in_their_width(tmp_path: Path, ids: Ids, dtype: str) -> None:
    source = write_ids(tmp_path / "train.bin", ids, dtype)
    tokens = opened(source, None)
    assert tokens.array.dtype == dtype
    assert tokens.array.tolist() == list(ids)
    assert tokens.note is None
    if dtype == "<u2" and len(ids) > 1000:  # the same tokens, whatever they are kept in
        assert opened(write_ids(tmp_path / "wide.bin", ids, "<u4"), None).digest == tokens.digest


def test_several_token_files_become_one(tmp_path: Path) -> None:
    write_ids(tmp_path / "a.bin", GPT2_IDS, "<u2")
    write_ids(tmp_path / "b.bin", np.arange(200_000, 200_500), "<u4")
    sources = find_sources([str(tmp_path)])
    tokens = opened(sources, tmp_path / "cache")
    assert tokens.array.tolist() == [*GPT2_IDS, *range(200_000, 200_500)]
    assert len(list((tmp_path / "cache" / "tokens").iterdir())) == 1
    assert opened(sources, tmp_path / "cache").digest == tokens.digest
    (tmp_path / "a.bin").write_bytes(b"\1")
    with pytest.raises(UserInputError, match="got a file of another size"):
        map_ids(tmp_path / "a.bin")
    with pytest.raises(UserInputError, match="cannot be read"):
        map_ids(tmp_path / "gone.bin")


@pytest.mark.parametrize("changed", [0, 3_000_000, 5_999_999])
def test_a_digest_is_of_number_and_tokens(tmp_path: Path, changed: int) -> None:
    ids = np.arange(6_000_000) % 251
    digests = {opened(write_ids(tmp_path / "a.bin", ids, "<u2"), None).digest}
    ids[changed : changed + 100_000] = 7
    digests.add(opened(write_ids(tmp_path / "b.bin", ids, "<u2"), None).digest)
    digests.add(opened(write_ids(tmp_path / "c.bin", ids[:-1], "<u2"), None).digest)
    assert len(digests) == 3
