from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from search_examples import limit_examples

from orchestrator.runtime.worker import Checkpoint
from orchestrator.search.messages import State
from orchestrator.store import checkpoints as states_module
from orchestrator.store.checkpoints import CheckpointStore, from_tensors, to_tensors
from orchestrator.store.lock import Lock

BUDGET = 10**9


def held(epoch: int = 1, *, size: int = 1_000, fill: float = 0.0) -> Checkpoint:
    return Checkpoint(epoch=epoch, state={"w": np.full(size, fill), "name": "é", "steps": 2**60})


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def same(a: Any, b: Any) -> bool:
    if isinstance(a, np.ndarray):
        return (
            isinstance(b, np.ndarray)
            and a.dtype == b.dtype
            and a.shape == b.shape
            and a.tobytes() == b.tobytes()
        )
    return type(a) is type(b) and repr(a) == repr(b)


# ---------------------------------------------------------------------- there and back

dtypes = st.one_of(
    hnp.floating_dtypes(endianness="<", sizes=(16, 32, 64)),
    hnp.integer_dtypes(endianness="<"),
    hnp.unsigned_integer_dtypes(endianness="<"),
    hnp.boolean_dtypes(),
)
shapes = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = dtypes.flatmap(lambda d: hnp.arrays(d, shapes))
plain = st.one_of(
    st.binary(max_size=9), st.text(max_size=9), st.integers(), st.floats(), st.booleans()
)
one_state = st.dictionaries(st.text("ab/_1.", min_size=1, max_size=5), arrays | plain, max_size=5)


@given(kept=st.dictionaries(st.integers(0, 20), one_state, min_size=1, max_size=3))
@example(kept={0: {"steps": np.array(7)}})
@example(kept={1: {"0/w": np.zeros(2)}, 10: {"w": np.ones(2)}, 0: {"10/w": b"\x00\xff"}})
@limit_examples(80)
def test_a_state_comes_back_to_the_last_bit_from_memory_and_from_disk(
    kept: dict[int, dict[str, Any]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        made = CheckpointStore(Path(folder), budget_bytes=BUDGET)
        for trial, state in kept.items():
            made.put(trial, Checkpoint(epoch=trial + 1, state=state))
        for _ in range(2):
            for trial, state in kept.items():
                back = made.get(trial)
                assert back is not None and back.epoch == trial + 1
                assert back.state.keys() == state.keys()
                assert all(same(back.state[name], value) for name, value in state.items())
            made.flush()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(12.0).reshape(3, 4).T,
        np.arange(12.0)[::3],
        np.arange(4, dtype=">f4"),
        np.broadcast_to(np.float32(3), (2, 2)),
    ],
)
def test_an_array_that_does_not_lie_in_one_piece_keeps_its_values(
    array: np.ndarray, tmp_path: Path
) -> None:
    CheckpointStore(tmp_path, budget_bytes=BUDGET)
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    made.put(0, Checkpoint(epoch=1, state={"w": array}))
    made.flush()
    back = made.get(0)
    assert back is not None
    np.testing.assert_array_equal(back.state["w"], array)
    assert back.state["w"].dtype.kind == array.dtype.kind


def test_numbers_that_numpy_made_are_kept_as_well(tmp_path: Path) -> None:
    """A trainer's own state easily holds a np.float32 or a np.int64 instead of a plain number."""
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    state = {"best": np.float32(0.25), "steps": np.int64(3), "done": np.bool_(True)}
    made.put(0, Checkpoint(epoch=1, state=state))
    made.flush()
    back = made.get(0)
    assert back is not None and back.state == state


def test_tensors_and_the_rest_are_taken_apart_and_put_together() -> None:
    state = {"w": np.ones(2), "b": b"\x00", "s": "x", "i": 3, "f": 0.5}
    tensors, rest = to_tensors(state)
    assert list(tensors) == ["w"]
    assert from_tensors(tensors, rest).keys() == state.keys()


# ---------------------------------------------------------------------- the folder


def test_states_survive_the_process(tmp_path: Path) -> None:
    first = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    for trial in range(3):
        first.put(trial, held(trial + 1, fill=trial))
        first.flush()
    first.put(1, held(9, fill=9))
    first.flush()
    first.put(3, held(8))  # never on disk
    again = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    back = [again.get(trial) for trial in range(4)]
    assert [b and b.epoch for b in back] == [1, 9, 3, None]
    assert back[1] is not None and back[1].state["w"][0] == 9
    assert again.used_bytes > 0


def test_states_of_one_flush_share_a_file_and_nothing_new_makes_none(tmp_path: Path) -> None:
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    made.flush()
    assert files(tmp_path) == []
    for trial in range(5):
        made.put(trial, held())
    made.flush()
    made.flush()
    assert len(files(tmp_path)) == 1


def test_a_file_goes_when_nobody_needs_it(tmp_path: Path) -> None:
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    for trial in (0, 1):
        made.put(trial, held())
    made.flush()
    made.drop(0)
    assert len(files(tmp_path)) == 1 and made.get(0) is None and made.get(1) is not None
    made.drop(1)
    assert files(tmp_path) == [] and made.used_bytes == 0
    made.drop(1)  # once more does no harm


def test_a_file_of_which_little_is_needed_is_dissolved(tmp_path: Path) -> None:
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    for trial in range(10):
        made.put(trial, held(fill=trial))
    made.flush()
    (before,) = files(tmp_path)
    size = (tmp_path / before).stat().st_size
    for trial in range(9):
        made.drop(trial)
    made.put(20, held())
    made.flush()
    (after,) = files(tmp_path)
    assert after != before and (tmp_path / after).stat().st_size < size / 3
    back = made.get(9)
    assert back is not None and back.state["w"][0] == 9
    again = CheckpointStore(tmp_path, budget_bytes=BUDGET).get(9)
    assert again is not None and again.state["w"][0] == 9


@pytest.mark.parametrize("state", [{"weights": np.zeros(2), "moments": np.zeros(2)}, {}])
def test_a_file_that_is_needed_whole_is_left_alone(state: State, tmp_path: Path) -> None:
    """Even one of small states, where names and numbers outweigh the arrays, or of none."""
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    for trial in range(20):
        made.put(trial, Checkpoint(epoch=1, state=state))
    made.flush()
    (path,) = tmp_path.iterdir()
    written = path.stat().st_mtime_ns
    for _ in range(3):
        made.flush()
    assert files(tmp_path) == [path.name] and path.stat().st_mtime_ns == written


def test_small_files_stay_few_and_a_state_is_written_a_few_times_in_all(tmp_path: Path) -> None:
    made, written, most = CheckpointStore(tmp_path, budget_bytes=BUDGET), 0, 0
    for trial in range(64):
        made.put(trial, held(fill=trial))
        made.flush()
        written += max(tmp_path.iterdir()).stat().st_size  # the latest one
        most = max(most, len(files(tmp_path)))
    (whole,) = tmp_path.iterdir()
    assert most <= np.log2(64)
    assert written <= (1 + np.log2(64)) * 1.1 * whole.stat().st_size  # 1.1: headers
    again = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    kept = [one.state["w"][0] for t in range(64) if (one := again.get(t))]
    assert kept == list(range(64))


def test_what_a_killed_writer_left_half_done_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / ".states-000000.safetensors.tmp").write_bytes(b"half")
    Lock(tmp_path).release()  # the next writer removes it
    CheckpointStore(folder, budget_bytes=BUDGET)
    assert files(folder) == []


def test_an_earlier_state_stays_until_the_newer_one_is_on_disk(tmp_path: Path) -> None:
    """A driver that dies in between costs the epochs since the last flush, not all of them."""
    first = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    first.put(0, held(9))
    first.flush()
    first.put(0, held(27))
    back = CheckpointStore(tmp_path, budget_bytes=BUDGET).get(0)
    assert back is not None and back.epoch == 9


def test_trim_lets_go_of_the_lowest_epochs_until_a_tenth_of_the_budget_is_used(
    tmp_path: Path,
) -> None:
    made = CheckpointStore(tmp_path, budget_bytes=200_000)
    for trial, epoch in enumerate([3, 27, 1, 9]):
        made.put(trial, held(epoch, size=1_000))  # 8 kB each, and 20 kB may stay
        made.flush()
    made.trim()
    assert [t for t in range(4) if made.get(t)] == [1, 3]
    assert made.used_bytes <= 20_000


# ---------------------------------------------------------------------- a cache, not a truth


def test_the_latest_states_need_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(states_module, "MEMORY_CACHE_BYTES", 3 * held(size=1_000).bytes)
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    for trial in range(5):
        made.put(trial, held(trial, size=1_000))
        made.flush()
    for path in tmp_path.iterdir():
        path.unlink()
    assert [t for t in range(5) if made.get(t)] == [2, 3, 4]
    made.drop(4)
    assert made.get(4) is None


@pytest.mark.parametrize("damage", ["cut", "empty", "noise", "gone"])
@pytest.mark.parametrize("reopened", [False, True])
def test_a_damaged_file_is_a_state_that_is_missing_and_no_error(
    damage: str, reopened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(states_module, "MEMORY_CACHE_BYTES", 0)
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    for trial in (0, 1):
        made.put(trial, held())
    made.flush()
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes({"cut": whole[:-100], "empty": b"", "noise": b"\xff" * 500}[damage])
    if reopened:
        made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    made.flush()
    assert made.get(0) is None and made.get(1) is None
    assert made.used_bytes == 0
    made.put(0, held(4))
    made.flush()
    back = made.get(0)
    assert back is not None and back.epoch == 4


@given(
    moves=st.lists(
        st.tuples(st.sampled_from(["put", "drop", "flush", "get", "reopen", "break"]),
                  st.integers(0, 4)),
        max_size=25,
    )
)  # fmt: skip
@limit_examples(40)
def test_what_is_used_is_never_negative_and_nothing_when_nothing_is_kept(
    moves: list[tuple[str, int]],
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made, known, broken = CheckpointStore(folder, budget_bytes=BUDGET), {}, False
        for number, (move, trial) in enumerate(moves):
            if move == "put":
                made.put(trial, held(number + 1, size=100 * (trial + 1)))
                known[trial] = number + 1
            elif move == "drop":
                made.drop(trial)
                known.pop(trial, None)
            elif move == "flush":
                made.flush()
            elif move == "reopen":
                made.flush()
                made = CheckpointStore(folder, budget_bytes=BUDGET)
            elif move == "break":
                for path in folder.glob("*.safetensors"):
                    path.write_bytes(b"")
            broken = broken or move == "break"
            back = made.get(trial)
            if trial in known and not broken:
                assert back is not None and back.epoch == known[trial]
            assert made.used_bytes >= 0
        for trial in range(5):
            made.drop(trial)
        assert made.used_bytes == 0
        assert broken or not list(folder.glob("states-*"))


def test_what_is_kept_is_weighed_against_the_budget(tmp_path: Path) -> None:
    made = CheckpointStore(tmp_path, budget_bytes=20_000)
    for trial in range(2):
        made.put(trial, held(size=1_000))  # 8 kB each
        assert not made.over_budget()
    made.put(2, held(size=1_000))
    assert made.over_budget()
    made.put(2, held(size=10))
    assert not made.over_budget()


def test_a_crash_in_a_flush_leaves_the_states_that_were_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    made.put(0, held(3))
    made.flush()
    made.put(1, held(4))

    def die(path: Path) -> Any:
        raise OSError("no space left on device")

    monkeypatch.setattr(states_module, "atomic_write", die)
    with pytest.raises(OSError, match="no space"):
        made.flush()
    monkeypatch.undo()
    again = CheckpointStore(tmp_path, budget_bytes=BUDGET)
    back = again.get(0)
    assert back is not None and back.epoch == 3 and again.get(1) is None
