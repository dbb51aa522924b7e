"""Messages survive the pipe; whatever else comes is told apart."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from phase8_tune.tuner.measuring.protocol import (
    CudaMemory,
    HostMemory,
    MeasureRequest,
    Progress,
    ProtocolError,
    Result,
    StartRequest,
    decode_reply,
    decode_request,
    encode,
)
from phase8_tune.tuner.values.measurement import LedgerLine, Measurement
from phase8_tune.tuner.values.outcome import Outcome

REQUEST = MeasureRequest(
    id=3,
    candidate={"model": "small", "n_seq": 512},
    warmup=5,
    iterations=20,
    seed=0,
    budget_bytes=1 << 33,
    reserve_bytes=0,
)
RESULT = Result(
    id=3,
    measurement=Measurement(
        outcome=Outcome.OK,
        samples_s=(0.1, 0.25),
        ledger=(LedgerLine(name="process", size_bytes=1, source="VmRSS"),),
        memory_stats={"num_ooms": 0},
    ),
    memory=HostMemory(before_bytes=1, peak_bytes=2, source="VmHWM"),
)


@pytest.mark.parametrize("message", [StartRequest(device="cuda"), REQUEST])
def test_request_survives(message: StartRequest | MeasureRequest) -> None:
    assert decode_request(encode(message)) == message


@pytest.mark.parametrize(
    "message",
    [
        RESULT,
        Progress(id=1, phase="timed"),
        RESULT.model_copy(
            update={"memory": CudaMemory(context_bytes=1, context_source="s", reserved_peak_bytes=2)}
        ),
    ],
)
def test_reply_survives(message: Result | Progress) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_reply(line) == message


@given(st.binary(max_size=200))
def test_noise_is_never_a_reply(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="expected a reply"):
        decode_reply(line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"type": "progress", "id": 1, "phase": "timed", "x": 1}', "x"),
        (b'{"type": "progress", "id": "1", "phase": "timed"}', "id"),
        (b'{"type": "progress", "id": 1, "phase": "lunch"}', "phase"),
        (b'{"type": "song"}', "song"),
        (b"[1, 2]", "expected"),
    ],
)
def test_strictness(line: bytes, said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        decode_reply(line)


def test_long_noise_is_quoted_short() -> None:
    with pytest.raises(ProtocolError) as caught:
        decode_reply(b"x" * 100_000)
    assert len(str(caught.value)) < 400
